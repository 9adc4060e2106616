#include "SurrogateEnergy.h"
#include "ProposalModel.h"
#include "Sha256.h"
#include "TorchConversions.h"
#include "openmm/OpenMMException.h"
#include <sstream>
#include <torch/csrc/jit/runtime/graph_executor.h>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;
using torch::Tensor;

/**
 * The TorchScript module, and its result checked.
 */
class SurrogateEnergy::Implementation {
public:
    explicit Implementation(const string& content) : device(torch::kCPU) {
        try {
            load(content, torch::kCPU);
        }
        catch (const exception& error) {
            throw OpenMMException("Timewarp: the surrogate is not a TorchScript module, or is damaged: " +
                                  firstLine(error.what()));
        }
        if (!module.find_method("forward"))
            throw OpenMMException("Timewarp: the surrogate has no method forward(positions); make it with "
                                  "timewarp_openmm.surrogate.surrogate_energy");
    }

    torch::Device getDevice() const {
        return device;
    }

    void moveTo(torch::Device newDevice, const string& content) {
        // Module::to() would leave constants behind, such as the parameters of a frozen module.
        if (newDevice != device)
            load(content, newDevice);
    }

    Tensor energies(const Tensor& positions) {
        // The interpreter without its optimiser, as for the model: rounding must not depend on how often it
        // was called.
        torch::jit::GraphOptimizerEnabledGuard noOptimizer(false);
        c10::IValue value;
        try {
            value = module.forward({positions});
        }
        catch (const exception& error) {
            throw OpenMMException(string("Timewarp: the surrogate failed; is it that of the model's "
                                         "molecule? ") +
                                  error.what());
        }
        if (!value.isTensor() || value.toTensor().sizes() != positions.sizes().slice(0, 1) ||
            value.toTensor().scalar_type() != torch::kFloat64)
            throw OpenMMException("Timewarp: the surrogate does not return one float64 energy for each "
                                  "conformation; see docs/contract.md");
        return value.toTensor();
    }

private:
    void load(const string& content, torch::Device newDevice) {
        istringstream file(content);
        module = torch::jit::load(file, newDevice);
        module.eval();
        device = newDevice;
    }

    torch::Device device;
    torch::jit::Module module;
};

SurrogateEnergy::SurrogateEnergy(const string& content)
        : content(content), digest(sha256(content)), implementation(make_unique<Implementation>(content)) {
}

SurrogateEnergy::~SurrogateEnergy() {
}

const string& SurrogateEnergy::getContent() const {
    return content;
}

const string& SurrogateEnergy::getSha256() const {
    return digest;
}

void SurrogateEnergy::useDevice(const DeviceLoan&, int index) {
    implementation->moveTo(torchDevice(index), content);
}

void SurrogateEnergy::compute(const DeviceLoan&, const ProposalBatch& batch, int numAtoms, const Vec3& origin,
                              vector<double>& energies) {
    torch::InferenceMode inference;
    torch::Device device = implementation->getDevice();
    OnDefaultStream stream(device);
    const vector<int64_t> shape{batch.size, numAtoms, 3};
    Tensor shift = positionsTensor({origin}, torch::kFloat64).to(device);
    Tensor relative;
    if (batch.onDevice.address == NULL)
        relative = at::from_blob(const_cast<double*>(batch.positions.data()), shape, torch::kFloat64);
    else {
        auto options = torch::TensorOptions(device).dtype(batch.onDevice.isDouble ? torch::kFloat64
                                                                                  : torch::kFloat32);
        relative = at::from_blob(const_cast<void*>(batch.onDevice.address), shape, options);
    }
    copyDoubles(implementation->energies((relative + shift).to(torch::kFloat32)), energies);
}

double SurrogateEnergy::compute(const DeviceLoan&, const vector<Vec3>& positions) {
    torch::InferenceMode inference;
    torch::Device device = implementation->getDevice();
    OnDefaultStream stream(device);
    Tensor x = positionsTensor(positions, torch::kFloat32).unsqueeze(0).to(device);
    return implementation->energies(x).item<double>();
}
