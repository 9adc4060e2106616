#ifndef TIMEWARP_TORCH_CONVERSIONS_H_
#define TIMEWARP_TORCH_CONVERSIONS_H_

#include "openmm/Vec3.h"
#include <c10/core/StreamGuard.h>
#include <string>
#include <torch/script.h>
#include <vector>

namespace TimewarpPlugin {

/**
 * Torch errors carry a stack trace; the first line says what is wrong.
 */
inline std::string firstLine(const std::string& text) {
    return text.substr(0, text.find('\n'));
}

/**
 * Copy positions to a tensor [N, 3].
 */
inline torch::Tensor positionsTensor(const std::vector<OpenMM::Vec3>& x, torch::Dtype type) {
    static_assert(sizeof(OpenMM::Vec3) == 3 * sizeof(double), "Vec3 is three doubles");
    void* data = const_cast<OpenMM::Vec3*>(x.data());
    return at::from_blob(data, {(int64_t)x.size(), 3}, torch::kFloat64).to(type, false, true);
}

/**
 * Copy numbers to a tensor.
 */
inline torch::Tensor doubleTensor(const std::vector<double>& values, torch::Dtype type) {
    return at::from_blob(const_cast<double*>(values.data()), {(int64_t)values.size()}, torch::kFloat64)
            .to(type, false, true);
}

/**
 * Copy a tensor to the host.
 */
inline void copyDoubles(const torch::Tensor& tensor, std::vector<double>& values) {
    torch::Tensor converted = tensor.to(torch::kCPU, torch::kFloat64).contiguous();
    values.assign(converted.data_ptr<double>(), converted.data_ptr<double>() + converted.numel());
}

/**
 * The device that a model runs on: a CUDA device, if this build of torch can use it, or else the CPU.
 *
 * @param index   the index of the CUDA device, or -1 for the CPU
 */
inline torch::Device torchDevice(int index) {
    bool onCuda = (index >= 0 && at::hasCUDA());
    return onCuda ? torch::Device(torch::kCUDA, index) : torch::Device(torch::kCPU);
}

/**
 * Works on a CUDA device's default stream for as long as it lives, whichever the caller's is: that is where
 * the platform hands over.
 */
class OnDefaultStream {
public:
    explicit OnDefaultStream(torch::Device device) {
        if (device.is_cuda())
            guard.reset_stream(c10::Stream(c10::Stream::DEFAULT, device));
    }

private:
    c10::OptionalStreamGuard guard;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_TORCH_CONVERSIONS_H_*/
