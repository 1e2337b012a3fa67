"""A model as one graph that other runtimes compute.

`graph` joins `pixels` (from an image of any size to what the views see), the views themselves, and `verdict` (from
cues to the score) to one module of PyTorch; `formats` writes it as ONNX, OpenVINO or an exported program of PyTorch,
and `page` as one page that scores in a browser. `anowild.portable` scores with an ONNX file where PyTorch is not
installed.
"""
