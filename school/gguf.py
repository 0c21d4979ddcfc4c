"""A small GGUF v3 writer, and the Q8_0 quantizer.

Layout: magic, version, tensor count, key count; keys; tensor headers; padding to 32; tensor data, each padded to 32.
A tensor's dimensions are written fastest-varying first, so a PyTorch (out, in) matrix is written as in, out.
"""
import struct

import numpy as np

U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
TYPE_F32, TYPE_Q8_0 = 0, 8
ALIGN = 32


def q8_0(x):
    """(rows, cols) float -> bytes. Per 32 values: an f16 scale (largest magnitude / 127) and 32 int8."""
    if x.shape[-1] % 32:
        raise ValueError(f"a row of {x.shape[-1]} values does not divide into blocks of 32")
    if not np.isfinite(x).all():
        raise ValueError("a weight is not a finite number")
    b = x.astype(np.float32).reshape(-1, 32)
    d = np.abs(b).max(1, keepdims=True) / np.float32(127)
    scaled = b * np.divide(1, d, out=np.zeros_like(d), where=d > 0)  # the reciprocal in f32, as the common tools do, so that the bytes agree
    q = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)).astype(np.int8)  # halves away from zero
    out = np.empty(len(b), dtype=[("d", "<f2"), ("q", "i1", 32)])
    out["d"], out["q"] = d[:, 0].astype(np.float16), q
    return out.tobytes()


def _string(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def _value(v):
    """(type, bytes) of a metadata value. A Python int is written as u32, a numpy int32 array as an array of i32."""
    if isinstance(v, bool):
        return BOOL, struct.pack("<?", v)
    if isinstance(v, int):
        return U32, struct.pack("<I", v)
    if isinstance(v, float):
        return F32, struct.pack("<f", v)
    if isinstance(v, str):
        return STRING, _string(v)
    if isinstance(v, np.ndarray) and v.dtype == np.int32:
        return ARRAY, struct.pack("<IQ", I32, len(v)) + v.astype("<i4").tobytes()
    if isinstance(v, list) and all(isinstance(x, str) for x in v):
        return ARRAY, struct.pack("<IQ", STRING, len(v)) + b"".join(map(_string, v))
    raise TypeError(f"no GGUF type for {type(v)}")


def write(path, metadata, tensors):
    """metadata: {key: value}; tensors: {name: float array}. Vectors are stored as F32, matrices as Q8_0."""
    head = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for k, v in metadata.items():
        t, b = _value(v)
        head.append(_string(k) + struct.pack("<I", t) + b)
    data, offset = [], 0
    for name, x in tensors.items():
        if x.ndim == 1:
            if not np.isfinite(x).all():
                raise ValueError(f"{name}: a weight is not a finite number")
            kind, b = TYPE_F32, x.astype("<f4").tobytes()
        else:
            kind, b = TYPE_Q8_0, q8_0(x)
        head.append(_string(name) + struct.pack("<I", x.ndim) + b"".join(struct.pack("<Q", n) for n in reversed(x.shape)) + struct.pack("<IQ", kind, offset))
        b += b"\0" * (-len(b) % ALIGN)
        data.append(b)
        offset += len(b)
    head = b"".join(head)
    with open(path, "wb") as f:
        f.write(head + b"\0" * (-len(head) % ALIGN))
        for b in data:
            f.write(b)
