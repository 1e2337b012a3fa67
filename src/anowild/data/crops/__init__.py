"""Square crops around the contrasted objects of video frames: cells, and whatever else is there.

Nothing here is specific to cells. An object is an area that stands out from the background of its
frame and is not tiny compared to the stated object size. So debris, dead cells and dirt are cropped
as well: the rare ones among them are what a detector is to find.

`settings` says what to crop and how, `levels` converts frames to 8-bit gray, `detection` finds the
objects, `placement` decides which get a crop and cuts it, `thinning` drops near-repeats over time,
and `reader` joins them into a source of images.
"""

from anowild.data.crops.detection import Detection, find_objects, objects_in_mask
from anowild.data.crops.levels import to_8_bit, to_gray, video_levels
from anowild.data.crops.placement import crop, crop_corner, select_objects
from anowild.data.crops.reader import CropReader
from anowild.data.crops.settings import CropSettings

__all__ = [
    "CropReader",
    "CropSettings",
    "Detection",
    "crop",
    "crop_corner",
    "find_objects",
    "objects_in_mask",
    "select_objects",
    "to_8_bit",
    "to_gray",
    "video_levels",
]
