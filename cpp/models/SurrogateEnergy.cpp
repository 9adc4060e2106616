#include "SurrogateEnergy.h"
#include "BatchPositions.h"
#include "Interruption.h"
#include "TorchConversions.h"
#include "TorchModule.h"
#include "openmm/OpenMMException.h"

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;
using torch::Tensor;

/**
 * The TorchScript module, and its result checked.
 */
class SurrogateEnergy::Implementation {
public:
    explicit Implementation(const string& content) : module("the surrogate", content) {
        if (!module.hasMethod("forward"))
            throw OpenMMException("Timewarp: the surrogate has no method forward(positions); make it with "
                                  "timewarp_openmm.energies.surrogate_energy");
    }

    TorchModule module;

    Tensor energies(const Tensor& positions) {
        c10::IValue value;
        try {
            value = module.call("forward", {positions});
        }
        catch (const ModelInterrupted&) {
            throw;
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
};

SurrogateEnergy::SurrogateEnergy(const string& content)
        : implementation(make_unique<Implementation>(content)) {
}

SurrogateEnergy::~SurrogateEnergy() {
}

const string& SurrogateEnergy::getContent() const {
    return implementation->module.getContent();
}

const string& SurrogateEnergy::getSha256() const {
    return implementation->module.getSha256();
}

void SurrogateEnergy::useDevice(const DeviceLoan&, int index) {
    implementation->module.moveTo(torchDevice(index));
}

void SurrogateEnergy::compute(const DeviceLoan&, const ProposalBatch& batch, int numAtoms, const Vec3& origin,
                              vector<double>& energies) {
    torch::InferenceMode inference;
    torch::Device device = implementation->module.getDevice();
    OnDefaultStream stream(device);
    Tensor x = batchPositions(batch, numAtoms, origin, device).to(torch::kFloat32);
    copyDoubles(implementation->energies(x), energies);
}

double SurrogateEnergy::compute(const DeviceLoan&, const vector<Vec3>& positions) {
    torch::InferenceMode inference;
    torch::Device device = implementation->module.getDevice();
    OnDefaultStream stream(device);
    Tensor x = positionsTensor(positions, torch::kFloat32).unsqueeze(0).to(device);
    return implementation->energies(x).item<double>();
}
