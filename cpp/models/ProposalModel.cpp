#include "ProposalModel.h"
#include "ContractChecks.h"
#include "FlowModule.h"
#include "RecordedFlow.h"
#include "TorchConversions.h"
#include "openmm/OpenMMException.h"
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <sstream>
#include <torch/script.h>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;
using torch::Tensor;

/**
 * Get the log density of a standard normal distribution of some dimension where it is largest, at zero.
 */
static double largestNormalLogDensity(int64_t dimension) {
    const double halfLogTwoPi = 0.918938533204672742;
    return -halfLogTwoPi * dimension;
}

/**
 * Compute the log density of a standard normal distribution for each row, summed in double precision.
 */
static void standardNormalLogDensities(const Tensor& rows, vector<double>& densities) {
    Tensor values = rows.flatten(1);
    copyDoubles(at::linalg_vector_norm(values, 2, {1}, false, torch::kFloat64), densities);
    double largest = largestNormalLogDensity(values.size(1));
    for (double& norm : densities)
        norm = largest - 0.5 * norm * norm;
}

/**
 * The positions and velocities of a batch of proposals.
 */
struct TimewarpPlugin::KeptResults {
    Tensor y, w;
};

/**
 * A module with the memory of its inputs and results, and with what makes batches of proposals.
 */
class ProposalModel::Implementation {
public:
    Implementation(const string& path, const string& content, ModelMetadata& metadata)
            : module(path, content, metadata) {
        if (!metadata.contextAtoms().empty())
            movedRows = at::from_blob(metadata.moved.data(), {(int64_t)metadata.moved.size()}, torch::kInt32)
                                .to(torch::kInt64, false, true);
        checkContract(module, metadata);
    }

    FlowModule module;

    void moveTo(torch::Device device) {
        graphs.clear();
        inputs = {};
        known = {};
        module.moveTo(device);
    }

    void setGraphRecorder(unique_ptr<TimewarpGraphRecorder> newRecorder) {
        graphs.clear();
        recorder = move(newRecorder);
    }

    bool usesGraphs() const {
        return recorder != nullptr;
    }

    void setKeptStretches(const vector<int>& indices) {
        if (indices == keptStretches)
            return;
        module.setKeptStretches(indices);
        keptStretches = indices;
        // They record other work. Only who holds the device may drop them.
        hasStaleGraphs = true;
    }

    /** The log densities of auxiliary velocities, those of the moved atoms alone. */
    void velocityDensities(const Tensor& velocities, vector<double>& densities) const {
        if (movedRows.defined())
            standardNormalLogDensities(velocities.index_select(1, movedRows.to(velocities.device())),
                                       densities);
        else
            standardNormalLogDensities(velocities, densities);
    }

    /** Of N atoms, how many move. */
    int64_t numMoved(int64_t numAtoms) const {
        return movedRows.defined() ? movedRows.numel() : numAtoms;
    }

    ProposalInputs prepareInputs(int64_t size, int64_t numAtoms) {
        module.prepareKeptStretches();
        if (hasStaleGraphs)
            graphs.clear();
        hasStaleGraphs = false;
        if (!inputs.x.defined() || inputs.x.size(0) != numAtoms || inputs.v.size(0) < size) {
            auto options = torch::TensorOptions(module.getDevice()).dtype(module.getType());
            inputs.x = torch::zeros({numAtoms, 3}, options);
            inputs.v = torch::zeros({size, numAtoms, 3}, options);
            inputs.noise = torch::zeros({size, module.getNoiseSize()}, options);
        }
        ProposalInputs memory;
        memory.size = size;
        memory.capacity = inputs.v.size(0);
        memory.numAtoms = numAtoms;
        memory.noiseSize = module.getNoiseSize();
        memory.isDouble = (module.getType() == torch::kFloat64);
        memory.onDevice = module.getDevice().is_cuda();
        memory.positions = inputs.x.data_ptr();
        memory.velocities = inputs.v.data_ptr();
        memory.noise = inputs.noise.data_ptr();
        return memory;
    }

    void setState(const vector<Vec3>& x) {
        inputs.x.copy_(positionsTensor(x, module.getType()));
    }

    /**
     * Keep the results of a batch, which may be asked for later.
     */
    void keep(const FlowOutputs& results, ProposalBatch& batch) const {
        if (batch.kept == nullptr)
            batch.kept = make_shared<KeptResults>();
        *batch.kept = {ofItsOwn(results.y), ofItsOwn(results.w)};
    }

    void getVelocities(const ProposalBatch& batch, int64_t entry, vector<float>& velocities) const {
        Tensor row = batch.kept->w[entry].flatten().to(torch::kCPU, torch::kFloat32);
        velocities.assign(row.data_ptr<float>(), row.data_ptr<float>() + row.numel());
    }

    void correlateNoise(const vector<double>& correlations, const vector<double>& common) {
        Tensor rho = doubleTensor(correlations, module.getType()).view({-1, module.getNoiseSize()});
        Tensor knowing = (rho != 0).any(1).nonzero().squeeze(1);
        rho = rho.index_select(0, knowing).to(module.getDevice());
        Tensor rows = knowing.to(module.getDevice());

        // A model of independent draws takes velocities from the end of the noise.  They stay as drawn, so
        // that one inverse does for all proposals.

        const int64_t numVelocities = 3 * numMoved(inputs.x.size(0));
        rho.narrow(1, rho.size(1) - numVelocities, numVelocities).zero_();
        Tensor latent = latentOfState();
        if (!common.empty()) {
            Tensor shared = doubleTensor(common, module.getType()).to(module.getDevice()).unsqueeze(0);
            Tensor first = rho.narrow(0, 0, 1);
            latent = first * latent + (1 - first * first).sqrt() * shared;
        }
        Tensor fresh = inputs.noise.index_select(0, rows);
        inputs.noise.index_copy_(0, rows, rho * latent + (1 - rho * rho).sqrt() * fresh);
    }

    /**
     * Get the noise that leads to the state, but for its velocities.  As long as proposals are rejected, the
     * state is the same.
     */
    const Tensor& latentOfState() {
        if (known.kept != keptStretches || !known.x.defined() || !at::equal(known.x, inputs.x)) {
            Tensor x = inputs.x.clone().unsqueeze(0);
            Tensor lag = torch::full({1}, numeric_limits<double>::infinity(), x.options());
            known = {x.squeeze(0), module.invert(x, inputs.v.narrow(0, 0, 1), x, lag), keptStretches};
        }
        return known.latent;
    }

    /** The inputs of a batch, with the lag times of its proposals. */
    FlowInputs getInputs(const vector<double>& lags) const {
        int64_t size = lags.size();
        return {inputs.x, inputs.v.narrow(0, 0, size), inputs.noise.narrow(0, 0, size),
                doubleTensor(lags, module.getType())};
    }

    /**
     * Make proposals with their densities, and those of the way back for the given rows.
     */
    FlowOutputs propose(const FlowInputs& in, const Tensor& rows) {
        FlowOutputs out = evaluate(in, false);
        if (rows.size(0) == 0)
            return out;
        torch::Device device = module.getDevice();
        Tensor chosen = rows.to(device);
        Tensor back = in.x.unsqueeze(0).expand({rows.size(0), in.x.size(0), 3});
        out.logReverse = torch::full({in.lag.size(0)}, numeric_limits<double>::quiet_NaN(),
                                     torch::TensorOptions().dtype(torch::kFloat64).device(device))
                                 .index_copy_(0, chosen,
                                              module.logProb(back, in.v.index_select(0, chosen),
                                                             out.y.index_select(0, chosen),
                                                             in.lag.index_select(0, rows)));
        return out;
    }

    /**
     * As propose() for all rows or none, by a graph that is recorded when it is needed for the first time.
     */
    const FlowOutputs& replay(const FlowInputs& in, bool reverse, const vector<double>& lagTimes) {
        unique_ptr<RecordedFlow>& flow = graphs[{in.lag.size(0), reverse}];
        if (flow == nullptr)
            flow = recordedFlow(in, reverse, lagTimes);
        return flow->run(in);
    }

private:
    /**
     * Get a result in memory that nothing else is written to.  A recording writes to that of its results each
     * time, and a model may return a part of its inputs, which are those of another block next, where several
     * have one model.
     */
    Tensor ofItsOwn(const Tensor& result) const {
        const bool isInput = result.is_alias_of(inputs.noise) || result.is_alias_of(inputs.x);
        return usesGraphs() || isInput ? result.clone() : result;
    }

    FlowOutputs evaluate(const FlowInputs& in, bool reverse) {
        FlowOutputs out;
        module.sample(in.x, in.noise, in.lag, out.y, out.w, out.logForward);
        if (reverse)
            out.logReverse = module.logProb(in.x.unsqueeze(0).expand_as(out.y), in.v, out.y, in.lag);
        return out;
    }

    /**
     * Record a graph, and compare it with the model's own results for two different inputs.
     */
    unique_ptr<RecordedFlow> recordedFlow(const FlowInputs& in, bool reverse,
                                          const vector<double>& lagTimes) {
        const string remedy = "; call setUseCudaGraphs(False) before the Context is created";
        unique_ptr<RecordedFlow> flow;
        try {
            flow = make_unique<RecordedFlow>(
                    *recorder, module.getDevice(), in,
                    [this, reverse](const FlowInputs& inputs) { return evaluate(inputs, reverse); });
        }
        catch (const exception& error) {
            throw OpenMMException("Timewarp: the model " + module.getPath() +
                                  " cannot be recorded as a CUDA graph, for which it must not wait for the "
                                  "GPU nor decide by the values of tensors" +
                                  remedy + ". " + error.what());
        }
        for (const FlowInputs& inputs : {in, otherInputs(in, lagTimes)}) {
            string difference = flow->findDifference(inputs, INVERTIBILITY_TOLERANCE, DENSITY_TOLERANCE);
            if (!difference.empty())
                throw OpenMMException("Timewarp: a CUDA graph of the model " + module.getPath() +
                                      " gives other results than the model itself: " + difference +
                                      " (tolerance 1e-5 for y and w, 1e-4 for log densities)" + remedy);
        }
        return flow;
    }

    /** Undefined if all atoms move. */
    Tensor movedRows;
    bool hasStaleGraphs = false;
    vector<int> keptStretches;
    /** Without lag times, and with room for the largest batch so far. */
    FlowInputs inputs;
    /** The noise that leads to a state, and what it depends on. */
    struct KnownLatent {
        Tensor x, latent;
        vector<int> kept;
    } known;
    unique_ptr<TimewarpGraphRecorder> recorder;
    /** By batch size, and whether they compute the densities of the way back. */
    map<pair<int64_t, bool>, unique_ptr<RecordedFlow>> graphs;
};

string ProposalModel::readFile(const string& path) {
    ifstream file(path, ios::binary);
    ostringstream content;
    if (file.peek() != EOF)
        content << file.rdbuf();
    if (!file.is_open() || file.bad() || !content)
        throw OpenMMException("Timewarp: cannot open the model file " + path + "; check the path");
    return move(content).str();
}

ProposalModel::ProposalModel(const string& path) : ProposalModel(path, readFile(path)) {
}

ProposalModel::ProposalModel(const string& name, const string& content)
        : implementation(make_unique<Implementation>(name, content, metadata)) {
}

ProposalModel::~ProposalModel() {
}

const ModelMetadata& ProposalModel::getMetadata() const {
    return metadata;
}

const string& ProposalModel::getContent() const {
    return implementation->module.getContent();
}

const string& ProposalModel::getSha256() const {
    return implementation->module.getSha256();
}

void ProposalModel::useDevice(const DeviceLoan&, int index) {
    implementation->moveTo(torchDevice(index));
}

string ProposalModel::getDevice() const {
    return implementation->module.getDevice().str();
}

void ProposalModel::setGraphRecorder(const DeviceLoan&, unique_ptr<TimewarpGraphRecorder> recorder) {
    implementation->setGraphRecorder(move(recorder));
}

bool ProposalModel::usesGraphs() const {
    return implementation->usesGraphs();
}

void ProposalModel::checkTranslationInvariance(const DeviceLoan&, const vector<Vec3>& x,
                                               const vector<Vec3>& shifts) {
    OnDefaultStream stream(implementation->module.getDevice());
    TimewarpPlugin::checkTranslationInvariance(implementation->module, metadata, x, shifts);
}

KeptMotions ProposalModel::findKeptMotions(const DeviceLoan&, const vector<Vec3>& x,
                                           const vector<double>& lagWeights) {
    OnDefaultStream stream(implementation->module.getDevice());
    return TimewarpPlugin::findKeptMotions(implementation->module, metadata, x, lagWeights);
}

void ProposalModel::setKeptStretches(const vector<int>& indices) {
    implementation->setKeptStretches(indices);
}

bool ProposalModel::isIndependentDraw(double lag) const {
    return isinf(lag) && !metadata.auxiliaryVelocities;
}

ProposalInputs ProposalModel::prepareInputs(const DeviceLoan&, int size, int numAtoms) {
    torch::InferenceMode inference;
    OnDefaultStream stream(implementation->module.getDevice());
    return implementation->prepareInputs(size, numAtoms);
}

void ProposalModel::setState(const DeviceLoan&, const vector<Vec3>& x) {
    torch::InferenceMode inference;
    OnDefaultStream stream(implementation->module.getDevice());
    implementation->setState(x);
}

void ProposalModel::correlateNoise(const DeviceLoan&, const vector<double>& correlations,
                                   const vector<double>& common) {
    torch::InferenceMode inference;
    OnDefaultStream stream(implementation->module.getDevice());
    implementation->correlateNoise(correlations, common);
}

void ProposalModel::propose(const DeviceLoan&, const vector<double>& lags, ProposalBatch& batch) {
    torch::InferenceMode inference;
    torch::Device device = implementation->module.getDevice();
    OnDefaultStream stream(device);
    int64_t size = lags.size();
    FlowInputs inputs = implementation->getInputs(lags);

    // The way back from an independent draw does not depend on it, so its density is not needed here.

    conditional.clear();
    for (int64_t i = 0; i < size; i++)
        if (!isIndependentDraw(lags[i]))
            conditional.push_back(i);
    Tensor rows = at::from_blob(conditional.data(), {(int64_t)conditional.size()}, torch::kInt64);
    FlowOutputs out = usesGraphs() ? implementation->replay(inputs, !conditional.empty(), metadata.lagTimes)
                                   : implementation->propose(inputs, rows);
    Tensor finite = (out.y.isfinite() & out.w.isfinite()).flatten(1).all(1).to(torch::kCPU);
    batch.size = size;
    batch.isFinite.assign(finite.data_ptr<bool>(), finite.data_ptr<bool>() + size);
    implementation->keep(out, batch);
    if (device.is_cuda()) {
        const Tensor& y = batch.kept->y;
        batch.positions.clear();
        batch.onDevice = {y.data_ptr(), y.scalar_type() == torch::kFloat64};
    }
    else {
        batch.onDevice = {};
        copyDoubles(out.y, batch.positions);
    }
    copyDoubles(out.logForward, batch.logForward);
    implementation->velocityDensities(out.w, batch.logVelocities);
    if (out.logReverse.defined()) {
        copyDoubles(out.logReverse, batch.logReverse);
        implementation->velocityDensities(inputs.v, batch.logAuxiliary);
    }
    else {
        batch.logReverse.assign(size, numeric_limits<double>::quiet_NaN());
        batch.logAuxiliary.assign(size, numeric_limits<double>::quiet_NaN());
    }
}

void ProposalModel::bringToHost(const DeviceLoan&, ProposalBatch& batch) const {
    if (batch.onDevice.address == nullptr)
        return;
    torch::InferenceMode inference;
    OnDefaultStream stream(implementation->module.getDevice());
    batch.onDevice = {};
    copyDoubles(batch.kept->y, batch.positions);
}

void ProposalModel::getVelocities(const DeviceLoan&, const ProposalBatch& batch, int entry,
                                  vector<float>& velocities) const {
    torch::InferenceMode inference;
    OnDefaultStream stream(implementation->module.getDevice());
    implementation->getVelocities(batch, entry, velocities);
}

double ProposalModel::independentLogDensity(const DeviceLoan&, const vector<Vec3>& x) {
    torch::InferenceMode inference;
    OnDefaultStream stream(implementation->module.getDevice());
    torch::Dtype type = implementation->module.getType();
    Tensor state = positionsTensor(x, type).unsqueeze(0);
    Tensor velocities = torch::zeros_like(state);
    Tensor lag = torch::full({1}, numeric_limits<double>::infinity(), type);
    return implementation->module.logProb(state, velocities, state, lag).item<double>() -
           largestNormalLogDensity(3 * implementation->numMoved(x.size()));
}
