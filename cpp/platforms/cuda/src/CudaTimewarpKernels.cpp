#include "CudaTimewarpKernels.h"
#include "openmm/OpenMMException.h"
#include "openmm/common/ContextSelector.h"
#include <dlfcn.h>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

// The stream that torch works on here (ProposalModel sees to that): the default one of the primary context.
static const CUstream TORCH_STREAM = nullptr;

static void check(CUresult result, const char* what) {
    if (result != CUDA_SUCCESS)
        throw OpenMMException(string("Timewarp: ") + what +
                              " failed: " + CudaContext::getErrorString(result));
}

CudaTimewarpEvent::CudaTimewarpEvent() {
    check(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING), "creating a CUDA event");
}

CudaTimewarpEvent::~CudaTimewarpEvent() {
    cuEventDestroy(event);
}

void CudaTimewarpEvent::record(CUstream stream) {
    check(cuEventRecord(event, stream), "recording a CUDA event");
}

void CudaTimewarpEvent::makeWait(CUstream stream) const {
    check(cuStreamWaitEvent(stream, event, 0), "waiting for a CUDA event");
}

PrimaryContext::PrimaryContext(CUdevice device) : device(device) {
    check(cuDevicePrimaryCtxRetain(&context, device), "retaining the device's primary CUDA context");
}

PrimaryContext::~PrimaryContext() {
    cuDevicePrimaryCtxRelease(device);
}

PrimaryContext::Selector::Selector(const PrimaryContext& primary) {
    check(cuCtxPushCurrent(primary.context), "selecting the device's primary CUDA context");
}

PrimaryContext::Selector::~Selector() {
    CUcontext unused;
    cuCtxPopCurrent(&unused);
}

void CudaTimewarpStateKernel::initialize(const System& system, const BlockAtoms& atoms) {
    CommonTimewarpStateKernel::initialize(system, atoms);
    ContextSelector selector(cu);
    openmmIsDone = make_unique<CudaTimewarpEvent>();
    primary = make_unique<PrimaryContext>(cu.getDevice());
    PrimaryContext::Selector primarySelector(*primary);
    torchIsDone = make_unique<CudaTimewarpEvent>();
}

int CudaTimewarpStateKernel::getModelDevice() const {
    return cu.getDeviceIndex();
}

/**
 * Load the library that is linked to torch's CUDA libraries; it lies beside this one.
 */
static void* loadGraphLibrary() {
    static const char here = 0;
    Dl_info info;
    if (dladdr(&here, &info) == 0)
        return NULL;
    string path = info.dli_fname;
    path = path.substr(0, path.rfind('/') + 1) + "libTimewarpOpenMMCUDAGraphs.so";

    // Python loads torch's libraries for torch alone.

    if (dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD | RTLD_GLOBAL) == NULL)
        return NULL;
    return dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
}

unique_ptr<TimewarpGraphRecorder> CudaTimewarpStateKernel::createGraphRecorder() const {
    void* library = loadGraphLibrary();
    void* create = (library == NULL ? NULL : dlsym(library, "createTimewarpGraphRecorder"));
    if (create == NULL) {
        const char* reason = dlerror();
        throw OpenMMException(string("Timewarp: CUDA graphs are not available: ") +
                              (reason == NULL ? "torch's CUDA library is not loaded" : reason) +
                              "; import torch (a CUDA build) first, or call setUseCudaGraphs(False)");
    }
    auto* function = reinterpret_cast<TimewarpGraphRecorder* (*)(int)>(create);
    return unique_ptr<TimewarpGraphRecorder>(function(getModelDevice()));
}

void CudaTimewarpStateKernel::lendDevice(ContextImpl& context) {
    {
        ContextSelector selector(cu);
        openmmIsDone->record(cu.getCurrentStream());
    }
    torchSelector.emplace(*primary);
    try {
        openmmIsDone->makeWait(TORCH_STREAM);
    }
    catch (...) {
        torchSelector.reset();
        throw;
    }
}

void CudaTimewarpStateKernel::takeDeviceBack() {
    // Not checked, as it is called where nothing may be thrown: an error stays with the CUDA context, and the
    // next call reports it.

    try {
        torchIsDone->record(TORCH_STREAM);
    }
    catch (const OpenMMException&) {
    }
    torchSelector.reset();
}

void CudaTimewarpStateKernel::waitForTorch() {
    ContextSelector selector(cu);
    torchIsDone->makeWait(cu.getCurrentStream());
}

void CudaTimewarpStateKernel::writeState(ContextImpl& context, const ProposalInputs& inputs,
                                         const Vec3& origin) {
    waitForTorch();
    CommonTimewarpStateKernel::writeState(context, inputs, origin);
}

void CudaTimewarpStateKernel::drawNormals(ContextImpl& context, const ProposalInputs& inputs,
                                          const RandomKey& key, int64_t firstIteration) {
    waitForTorch();
    CommonTimewarpStateKernel::drawNormals(context, inputs, key, firstIteration);
}

void CudaTimewarpStateKernel::setDeviceProposals(ContextImpl& context, const void* positions, int size,
                                                 const Vec3& origin) {
    waitForTorch();
    CommonTimewarpStateKernel::setDeviceProposals(context, positions, size, origin);
}
