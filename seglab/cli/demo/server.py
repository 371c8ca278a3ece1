"""What the page's server answers: the page, thumbnails of its examples, and predictions, one at a time."""

import json
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from io import BytesIO
from pathlib import Path
from queue import SimpleQueue
from socket import socket
from threading import Thread
from time import perf_counter
from urllib.parse import urlsplit

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image
from urllib3 import encode_multipart_formdata
from werkzeug.exceptions import Forbidden, NotFound, RequestEntityTooLarge
from werkzeug.middleware.shared_data import SharedDataMiddleware
from werkzeug.routing import Map, Rule
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from seglab.cli.network import Network
from seglab.data.files import read_image
from seglab.errors import InputError
from seglab.task.pictures import palette, save_mask

_WEB = Path(__file__).parent / "web"
_LOOK = Path(__file__).parents[2] / "lab" / "report" / "web"  # type, colours and theme are the report's
FILES = {f"/{path.name}": str(path) for path in (_WEB / "demo.css", _WEB / "demo.js", _WEB / "stage.js",
         _LOOK / "page.css", _LOOK / "theme.js")}  # fmt: skip
MAX_MEGABYTES, MAX_SIDE = 100, 10_000  # a canvas of more pixels is refused by some browsers
THUMBNAIL = 192  # pixels
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Page:
    """The page as a WSGI application. Its requests come in threads of their own and wait for `predict_forever`."""

    routes = Map(
        [
            Rule("/", endpoint="index", methods=["GET"]),
            Rule("/thumbnails/<int:number>", endpoint="thumbnail", methods=["GET"]),
            Rule("/predict", endpoint="predict", methods=["POST"]),
        ]
    )

    def __init__(
        self,
        network: Network,
        title: str,
        examples: Mapping[str, Callable[[], np.ndarray]],
        hosts: Collection[str] | None = None,
    ) -> None:
        """Renders the page.

        Args:
            network: what predicts.
            title: of the page.
            examples: reads a photograph uint8 (h, w, 3), by name.
            hosts: names that the page may be asked for by, lest another site passes for it; any by default.
        """
        self.network, self.examples, self.hosts = network, examples, hosts
        self.waiting: SimpleQueue[tuple[np.ndarray, Future]] = SimpleQueue()
        num_classes = len(network.class_names)
        environment = Environment(loader=FileSystemLoader(_WEB), autoescape=True, undefined=StrictUndefined)
        self.html = environment.get_template("index.html.j2").render(
            title=title,
            num_runs=len(network.inference.models),
            class_names=network.class_names,
            examples=list(examples),
            data={
                "classes": network.class_names,
                "colors": palette(num_classes)[:num_classes].tolist(),
                "megabytes": MAX_MEGABYTES,
            },
        )

    @Request.application
    def __call__(self, request: Request) -> Response:
        """Answers a request."""
        request.trusted_hosts = self.hosts
        endpoint, values = self.routes.bind(request.host).match(request.path, request.method)
        response = getattr(self, endpoint)(request, **values)
        response.headers.extend(HEADERS)
        return response

    def index(self, request: Request) -> Response:
        """Returns the page."""
        return Response(self.html, mimetype="text/html")

    def thumbnail(self, request: Request, number: int) -> Response:
        """Returns an example, small.

        Raises:
            NotFound: There is none of this number, or it cannot be read any more.
        """
        try:
            picture = Image.fromarray(list(self.examples.values())[number]())
        except (IndexError, InputError) as error:
            raise NotFound(str(error)) from None
        picture.thumbnail((THUMBNAIL, THUMBNAIL))
        return Response(encoded(picture, "PNG"), mimetype="image/png")

    def predict(self, request: Request) -> Response:
        """Returns a form of what the page shows of a photograph, or a line on what is wrong with it.

        The form holds `photograph` (JPEG, upright), `mask` (palette PNG), `preds` (a byte for each pixel, row by row)
        and `facts` (JSON).

        Raises:
            Forbidden: It is not the page that asks.
        """
        origin = request.headers.get("Origin")  # which browsers send everywhere, unlike the other
        elsewhere = origin is not None and urlsplit(origin).netloc != request.host
        if request.headers.get("Sec-Fetch-Site", "cross-site" if elsewhere else "same-origin") != "same-origin":
            raise Forbidden
        try:
            name, image = self.photograph(request)
            preds, seconds = self.preds_of(image)
        except InputError as error:
            return Response(str(error), 422, mimetype="text/plain")
        facts = {"name": name, "height": image.shape[0], "width": image.shape[1], "seconds": seconds}
        mask = BytesIO()
        save_mask(preds, mask, len(self.network.class_names))
        photograph = encoded(Image.fromarray(image), "JPEG", quality=95, subsampling=0)
        body, content_type = encode_multipart_formdata(
            {
                "facts": json.dumps(facts),
                "photograph": ("photograph.jpg", photograph, "image/jpeg"),
                "mask": ("mask.png", mask.getvalue(), "image/png"),
                "preds": ("preds", preds.tobytes(), "application/octet-stream"),
            }
        )
        return Response(body, content_type=content_type)

    def photograph(self, request: Request) -> tuple[str, np.ndarray]:
        """Returns name and pixels uint8 (h, w, 3) of the example that is asked for, or of the file that is sent.

        Raises:
            InputError: It cannot be read, or is too large for the page.
        """
        name = request.args.get("name", "photograph")
        if "example" in request.args:
            if name not in self.examples:
                raise InputError(f"{name}: is no example of this page; reload it")
            return name, self.examples[name]()
        request.max_content_length = MAX_MEGABYTES * 10**6
        try:
            content = request.get_data(cache=False)
        except RequestEntityTooLarge:
            raise InputError(f"{name}: has more than {MAX_MEGABYTES} MB; save it smaller") from None
        refuse_large(name, content)
        return name, read_image(name, content, "give another file")

    def preds_of(self, image: np.ndarray) -> tuple[np.ndarray, float]:
        """Returns the classes uint8 (h, w) of a photograph when its turn has come, and the seconds that it took.

        Raises:
            InputError: There is not enough memory for it.
        """
        preds: Future[tuple[np.ndarray, float]] = Future()
        self.waiting.put((image, preds))
        try:
            return preds.result()
        except (RuntimeError, MemoryError) as error:
            reason = (str(error) or "out of memory").splitlines()[0]
            raise InputError(f"the network failed ({reason}); start seglab demo with a smaller --window") from None

    def predict_forever(self) -> None:
        """Predicts what waits, one photograph after the other; runs in the main thread, which Ctrl-C interrupts."""
        while True:
            image, preds = self.waiting.get()
            started = perf_counter()
            try:
                preds.set_result((self.network.predict(image)[0], perf_counter() - started))
            except Exception as error:
                preds.set_exception(error)


def refuse_large(name: str, content: bytes) -> None:
    """Refuses a photograph that the page cannot show, before it is decoded.

    Raises:
        InputError: It is too large.
    """
    try:
        with Image.open(BytesIO(content)) as picture:
            width, height = picture.size
    except Exception:  # of many kinds; `read_image` says what is wrong
        return
    if max(height, width) > MAX_SIDE:
        raise InputError(
            f"{name}: is {width} x {height} pixels, and the page shows sides of up to {MAX_SIDE}; "
            "save it smaller, or use `seglab predict`"
        )


class QuietHandler(WSGIRequestHandler):
    """Says errors, and not every request."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Says nothing."""


def serve(page: Page, listener: socket) -> None:
    """Answers requests in threads that end with the process."""
    host, port = listener.getsockname()
    application = SharedDataMiddleware(page, FILES, cache=False)
    server = make_server(host, port, application, threaded=True, request_handler=QuietHandler, fd=listener.fileno())
    Thread(target=server.serve_forever, daemon=True).start()


def encoded(picture: Image.Image, kind: str, **options: int) -> bytes:
    """Returns a picture as the bytes of a file."""
    file = BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()
