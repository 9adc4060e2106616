#include "FlowModule.h"
#include "Interruption.h"
#include "openmm/OpenMMException.h"
#include <sstream>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;
using torch::Tensor;

FlowModule::FlowModule(const string& path, const string& content, ModelMetadata& metadata)
        : path(path), noiseSize(0), numStretches(0), real(torch::kFloat32),
          module("the model " + path, content) {
    const string& text = module.getText(ModelMetadata::fileName);
    if (text.empty())
        throw OpenMMException("Timewarp: " + path + " is a TorchScript file without " +
                              ModelMetadata::fileName +
                              ", so it is not a proposal model; export it with "
                              "timewarp_openmm.flows.export_model");
    metadata = ModelMetadata::parse(text, path);
    noiseSize = metadata.noiseSize;
    numStretches = metadata.stretches.size();
    real = metadata.doublePrecision ? torch::kFloat64 : torch::kFloat32;
    vector<const char*> methods{"sample", "log_prob", "invert"};
    if (numStretches > 0)
        methods.insert(methods.end(), {"sample_constrained", "log_prob_constrained"});
    for (const char* method : methods)
        if (!module.hasMethod(method))
            fail(string("it has no method ") + method);
}

void FlowModule::moveTo(torch::Device newDevice) {
    module.moveTo(newDevice);
}

void FlowModule::setKeptStretches(const vector<int>& indices) {
    kept = Tensor();
    if (indices.empty())
        return;
    Tensor mask = torch::zeros({numStretches}, torch::kBool);
    for (int index : indices) {
        if (index < 0 || index >= numStretches)
            throw OpenMMException("Timewarp: the model " + path + " has " + to_string(numStretches) +
                                  " bonds whose lengths can be kept, none of the number " + to_string(index));
        mask[index] = true;
    }
    kept = mask;
}

void FlowModule::prepareKeptStretches() {
    if (kept.defined())
        kept = kept.to(getDevice());
}

void FlowModule::fail(const string& what) const {
    throw OpenMMException("Timewarp: the model " + path + " does not honour the model contract: " + what +
                          "; see docs/contract.md");
}

c10::IValue FlowModule::call(const char* method, vector<c10::IValue> arguments) {
    try {
        return module.call(method, move(arguments));
    }
    catch (const ModelInterrupted&) {
        throw;
    }
    catch (const exception& error) {
        throw OpenMMException("Timewarp: " + string(method) + " of the model " + path +
                              " failed: " + error.what());
    }
}

Tensor FlowModule::checked(const c10::IValue& value, const char* what, torch::IntArrayRef shape,
                           torch::Dtype type) const {
    if (!value.isTensor())
        fail(string(what) + " is not a tensor");
    Tensor tensor = value.toTensor();
    if (tensor.sizes() != shape || tensor.scalar_type() != type) {
        stringstream message;
        message << what << " has shape " << tensor.sizes() << " and type " << tensor.scalar_type()
                << ", expected " << shape << " and " << type;
        fail(message.str());
    }
    return tensor.contiguous();
}

void FlowModule::sample(const Tensor& x, const Tensor& noise, const Tensor& lag, Tensor& y, Tensor& w,
                        Tensor& logq) {
    torch::Device device = getDevice();
    vector<c10::IValue> arguments{x.to(device), noise.to(device), lag.to(device)};
    if (kept.defined())
        arguments.push_back(kept.to(device));
    auto result = call(kept.defined() ? "sample_constrained" : "sample", move(arguments));
    if (!result.isTuple() || result.toTupleRef().elements().size() != 3)
        fail("sample does not return a tuple (y, w, log_q)");
    const auto& elements = result.toTupleRef().elements();
    int64_t batch = noise.size(0);
    y = checked(elements[0], "y of sample", {batch, x.size(0), 3}, real);
    w = checked(elements[1], "w of sample", {batch, x.size(0), 3}, real);
    logq = checked(elements[2], "log_q of sample", {batch}, torch::kFloat64);
}

Tensor FlowModule::logProb(const Tensor& y, const Tensor& w, const Tensor& x, const Tensor& lag) {
    torch::Device device = getDevice();
    vector<c10::IValue> arguments{y.to(device), w.to(device), x.to(device), lag.to(device)};
    if (kept.defined())
        arguments.push_back(kept.to(device));
    auto result = call(kept.defined() ? "log_prob_constrained" : "log_prob", move(arguments));
    return checked(result, "log_prob", {y.size(0)}, torch::kFloat64);
}

Tensor FlowModule::invert(const Tensor& y, const Tensor& w, const Tensor& x, const Tensor& lag) {
    return checked(call("invert", {y, w, x, lag}), "invert", {y.size(0), noiseSize}, real);
}
