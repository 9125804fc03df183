"""What a device says when it cannot go on, told as the errors that a person can mend."""

import re

from plates.errors import DeviceError, DeviceMemoryError

_MEMORY = re.compile(r"out of memory", re.IGNORECASE)
_LOST = re.compile(r"CUDA error|CUDA driver|cuDNN error|cublas|CUBLAS|NVML|MPS backend|device is lost|AcceleratorError")


def device_fault(error: BaseException) -> DeviceError | None:
    """The fault of a device that an error of PyTorch tells of; None where it is another error.

    Batches were halved down to a single patch before an error of memory leaves `models.inference`.
    """
    if not isinstance(error, RuntimeError) or isinstance(error, DeviceError):
        return None
    text = f"{type(error).__name__}: {error}"
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    if _MEMORY.search(text):
        return DeviceMemoryError(
            f"The device's memory does not hold the network and a single patch ({first}). What was finished is kept. "
            "End other programs that use the device, or give another one, then run again."
        )
    if _LOST.search(text):
        return DeviceError(
            f"The device stopped working ({first}). What was finished is kept. Mend it and run again, or run again "
            "with what is there (--device auto) or on the processor (--device cpu)."
        )
    return None
