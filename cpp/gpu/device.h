// The GPUs of this machine.
#pragma once

#include <string>

#include "gpu/memory.h"

namespace fasthash::gpu {

/// How many there are. Throws DeviceError that says why where there is no driver that works.
int n_devices();
std::string device_name(int device);

/// What this thread asks for goes to a device, until the guard ends.
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
