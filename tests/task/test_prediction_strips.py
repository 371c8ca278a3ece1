import numpy as np

from seglab.task.prediction_strips import layered_images


def test_masks_are_brought_to_the_size_of_a_shrunk_image_and_keep_their_values():
    image = np.zeros((4, 6, 3), np.uint8)
    mask = np.arange(4, dtype=np.uint8).repeat(6).reshape(4, 6).repeat(2, 0).repeat(2, 1)  # (8, 12)
    given = layered_images([("a", image, mask, mask[::-1].copy())], ["ground", "cat", "dog"])
    [layers] = given["masks"]
    assert given["caption"] == ["a"] and given["images"][0].size == (6, 4)
    assert layers["label"]["mask_data"].tolist() == mask[::2, ::2].tolist()
    assert layers["prediction"]["mask_data"].tolist() == mask[::-2, ::2].tolist()
    assert layers["label"]["class_labels"] == {0: "ground", 1: "cat", 2: "dog", 3: "boundary"}
