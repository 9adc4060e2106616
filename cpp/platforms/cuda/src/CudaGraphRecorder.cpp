#include "TimewarpGraphRecorder.h"
#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <cuda_runtime_api.h>

using namespace TimewarpPlugin;
using namespace std;

// Torch's CUDAGraph has other members where it is compiled for an older CUDA.  No torch that this plugin can
// be built with is.
static_assert(CUDART_VERSION >= 12040, "CUDA graphs need the headers of CUDA 12.4 or newer");

// As many as torch recommends.
static const int WARM_UP_RUNS = 3;

/**
 * Work of torch that has been recorded.
 */
class CudaGraph : public TimewarpGraph {
public:
    void replay() override {
        // On the current stream, which need not be the one of the recording.

        graph.replay();
    }
    at::cuda::CUDAGraph graph;
};

/**
 * Records work that torch does on one device.
 */
class CudaGraphRecorder : public TimewarpGraphRecorder {
public:
    explicit CudaGraphRecorder(int device) : device(c10::kCUDA, device) {
    }
    unique_ptr<TimewarpGraph> record(const function<void()>& work) override {
        // The default stream cannot be recorded, so that it takes another one, after all work on the first.

        c10::impl::VirtualGuardImpl cuda(c10::kCUDA);
        cuda.getStream(device).synchronize();
        c10::StreamGuard guard(cuda.getStreamFromGlobalPool(device));
        for (int i = 0; i < WARM_UP_RUNS; i++)
            work();
        guard.current_stream().synchronize();
        auto recorded = make_unique<CudaGraph>();

        // Other threads may do as they please meanwhile.

        recorded->graph.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
        try {
            work();
        }
        catch (...) {
            abandon(recorded->graph);
            throw;
        }
        recorded->graph.capture_end();
        return recorded;
    }

private:
    /** Bring the stream out of the recording; what went wrong has been noted. */
    static void abandon(at::cuda::CUDAGraph& graph) {
        try {
            graph.capture_end();
        }
        catch (const exception&) {
        }
    }
    c10::Device device;
};

/**
 * What the CUDA library looks for here.  The caller owns what it returns.
 */
extern "C" EXPORT_TIMEWARP TimewarpGraphRecorder* createTimewarpGraphRecorder(int device) {
    return new CudaGraphRecorder(device);
}
