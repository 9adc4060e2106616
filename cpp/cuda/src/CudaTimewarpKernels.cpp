#include "CudaTimewarpKernels.h"
#include "CommonTimewarpKernelSources.h"
#include "openmm/OpenMMException.h"
#include "openmm/common/ContextSelector.h"

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

/**
 * Hands the device to torch, and back to OpenMM when it is destroyed.
 */
class CudaTimewarpStateKernel::Loan {
public:
    explicit Loan(CudaTimewarpStateKernel& kernel) : kernel(kernel), selector(*kernel.primary) {
        kernel.openmmIsDone->makeWait(TORCH_STREAM);
    }
    ~Loan() {
        // Not checked, as a destructor must not throw: an error stays with the CUDA context, and the next
        // call reports it.

        try {
            kernel.torchIsDone->record(TORCH_STREAM);
        }
        catch (const OpenMMException&) {
        }
    }

private:
    CudaTimewarpStateKernel& kernel;
    PrimaryContext::Selector selector;
};

void CudaTimewarpStateKernel::initialize(const System& system, const vector<int>& particles) {
    CommonTimewarpStateKernel::initialize(system, particles);
    ContextSelector selector(cu);
    ComputeProgram program = cu.compileProgram(CommonTimewarpKernelSources::timewarpDevice);
    takeFloatKernel = program->createKernel("takeFloatProposals");
    takeDoubleKernel = program->createKernel("takeDoubleProposals");
    for (auto& kernel : {takeFloatKernel, takeDoubleKernel}) {
        kernel->addArg();
        kernel->addArg(getProposalArray());
        for (int i = 0; i < 4; i++)
            kernel->addArg();
    }
    openmmIsDone = make_unique<CudaTimewarpEvent>();
    primary = make_unique<PrimaryContext>(cu.getDevice());
    PrimaryContext::Selector torchSelector(*primary);
    torchIsDone = make_unique<CudaTimewarpEvent>();
}

int CudaTimewarpStateKernel::getModelDevice() const {
    return cu.getDeviceIndex();
}

shared_ptr<void> CudaTimewarpStateKernel::lendDevice(ContextImpl& context) {
    {
        ContextSelector selector(cu);
        openmmIsDone->record(cu.getCurrentStream());
    }
    return make_shared<Loan>(*this);
}

void CudaTimewarpStateKernel::setDeviceProposals(ContextImpl& context, const void* positions, bool isDouble,
                                                 int size, const Vec3& origin) {
    ContextSelector selector(cu);
    int numAtoms = size * getNumModelAtoms();
    reserveProposals(size);
    ComputeKernel kernel = (isDouble ? takeDoubleKernel : takeFloatKernel);
    kernel->setArg(0, reinterpret_cast<CUdeviceptr>(positions));
    kernel->setArg(1, getProposalArray());
    for (int j = 0; j < 3; j++)
        kernel->setArg(2 + j, origin[j]);
    kernel->setArg(5, numAtoms);
    torchIsDone->makeWait(cu.getCurrentStream());
    kernel->execute(numAtoms);
}
