#ifndef CUDA_TIMEWARP_KERNELS_H_
#define CUDA_TIMEWARP_KERNELS_H_

#include "CommonTimewarpKernels.h"
#include "openmm/cuda/CudaContext.h"
#include <memory>
#include <optional>

namespace TimewarpPlugin {

/**
 * A CUDA event of one CUDA context.
 */
class CudaTimewarpEvent {
public:
    /**
     * Create an event of the current CUDA context.
     */
    CudaTimewarpEvent();
    ~CudaTimewarpEvent();
    CudaTimewarpEvent(const CudaTimewarpEvent&) = delete;
    CudaTimewarpEvent& operator=(const CudaTimewarpEvent&) = delete;
    /**
     * Mark the point that a stream of the event's own CUDA context has reached.
     */
    void record(CUstream stream);
    /**
     * Make a stream of the current CUDA context wait for that point.
     */
    void makeWait(CUstream stream) const;

private:
    CUevent event;
};

/**
 * The primary CUDA context of a device, which is the one that torch uses.  OpenMM has its own.
 */
class PrimaryContext {
public:
    explicit PrimaryContext(CUdevice device);
    ~PrimaryContext();
    PrimaryContext(const PrimaryContext&) = delete;
    PrimaryContext& operator=(const PrimaryContext&) = delete;

    /**
     * Makes it the current CUDA context of this thread for as long as it lives.
     */
    class Selector {
    public:
        explicit Selector(const PrimaryContext& primary);
        ~Selector();
        Selector(const Selector&) = delete;
        Selector& operator=(const Selector&) = delete;
    };

private:
    CUdevice device;
    CUcontext context;
};

/**
 * TimewarpStateKernel for the CUDA platform, where the model runs on the Context's device if torch can: its
 * inputs and proposals are then never anywhere else.
 */
class CudaTimewarpStateKernel : public CommonTimewarpStateKernel {
public:
    CudaTimewarpStateKernel(const std::string& name, const OpenMM::Platform& platform,
                            OpenMM::CudaContext& cu)
            : CommonTimewarpStateKernel(name, platform, cu), cu(cu) {
    }
    void initialize(const OpenMM::System& system, const BlockAtoms& atoms) override;
    int getModelDevice() const override;
    std::unique_ptr<TimewarpGraphRecorder> createGraphRecorder() const override;
    void lendDevice(OpenMM::ContextImpl& context) override;
    void takeDeviceBack() override;
    void writeState(OpenMM::ContextImpl& context, const ProposalInputs& inputs,
                    const OpenMM::Vec3& origin) override;
    void drawNormals(OpenMM::ContextImpl& context, const ProposalInputs& inputs, const RandomKey& key,
                     std::int64_t firstIteration) override;
    void setDeviceProposals(OpenMM::ContextImpl& context, const void* positions, int size,
                            const OpenMM::Vec3& origin) override;

private:
    void waitForTorch();
    OpenMM::CudaContext& cu;
    std::unique_ptr<PrimaryContext> primary;
    /** While torch has the device. */
    std::optional<PrimaryContext::Selector> torchSelector;
    /** What each of the two must wait for when the other hands over. */
    std::unique_ptr<CudaTimewarpEvent> openmmIsDone, torchIsDone;
};

} // namespace TimewarpPlugin

#endif /*CUDA_TIMEWARP_KERNELS_H_*/
