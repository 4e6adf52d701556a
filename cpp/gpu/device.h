// The GPUs of this machine, by CUDA's device numbers.
#pragma once

#include <string>

#include "gpu/memory.h"

namespace fasthash::gpu {

/// Number of GPUs. Throws DeviceError with the reason if no driver works.
int n_devices();
std::string device_name(int device);

/// Makes a device current for this thread for the lifetime of this object.
class OnDevice {
 public:
    /// Throws DeviceError if there is no such device.
    explicit OnDevice(int device);
    ~OnDevice();
    OnDevice(const OnDevice&) = delete;
    OnDevice& operator=(const OnDevice&) = delete;

 private:
    int device_;
    int before_ = 0;
};

}  // namespace fasthash::gpu
