"""Exported models where PyTorch is not installed: ONNX Runtime, NumPy and Pillow are enough.

`facts` is what an exported file says of its model, `model` scores images with it, and `command` is
`anowild score MODEL.onnx`.
"""
