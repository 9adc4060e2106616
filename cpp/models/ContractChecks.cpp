#include "ContractChecks.h"
#include "IterationNoise.h"
#include "TorchConversions.h"
#include "openmm/OpenMMException.h"
#include <cmath>
#include <numeric>
#include <sstream>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;
using torch::Tensor;

// Invariance to translation can only be judged to the rounding of positions of 1 nm in single precision.
static const double TRANSLATION_TOLERANCE = 1e-4;
static const double TRANSLATION_DENSITY_TOLERANCE = 0.05;
static const int CHECK_BATCH = 8;

static Tensor checkNoise(const FlowModule& module) {
    Tensor noise = torch::empty({CHECK_BATCH, module.getNoiseSize()}, torch::kFloat32);
    IterationNoise(RandomKey({1}), 0).normal(noise.data_ptr<float>(), noise.numel());
    return noise.to(module.getType());
}

static Tensor pairDistances(const Tensor& y) {
    return (y.unsqueeze(1) - y.unsqueeze(2)).square().sum(-1).sqrt();
}

[[noreturn]] static void report(const FlowModule& module, const string& what, double difference,
                                double tolerance, double time) {
    stringstream message;
    message << what << " " << difference << " at lag time " << time << " ps (tolerance " << tolerance << ")";
    module.fail(message.str());
}

static void checkDensity(const FlowModule& module, const Tensor& logProbability, const Tensor& logq,
                         double time) {
    double difference = (logProbability - logq).abs().max().item<double>();
    if (!(difference <= DENSITY_TOLERANCE))
        report(module, "log_prob of its own samples differs from their log_q by", difference,
               DENSITY_TOLERANCE, time);
}

static void checkInvertibility(FlowModule& module, const Tensor& x, const Tensor& noise, const Tensor& lag,
                               const Tensor& y, double time) {
    Tensor again, w, logq;
    module.sample(x, noise, lag, again, w, logq);
    double difference = (again - y).abs().max().item<double>();
    if (!(difference <= INVERTIBILITY_TOLERANCE))
        report(module, "sample(x, invert(y, w, x)) differs from y (in nm) by", difference,
               INVERTIBILITY_TOLERANCE, time);
}

/**
 * One small batch of proposals from one state, at one lag time.
 */
struct Trial {
    double time;
    Tensor x, noise, lag, y, w, logq;
};

static Tensor rows(const Tensor& tensor, const vector<int>& atoms) {
    vector<int64_t> indices(atoms.begin(), atoms.end());
    return tensor.index_select(1, torch::tensor(indices));
}

static Trial makeTrial(FlowModule& module, const Tensor& x, double time) {
    Trial trial{time, x, checkNoise(module), torch::full({CHECK_BATCH}, time, module.getType()), {}, {}, {}};
    module.sample(x, trial.noise, trial.lag, trial.y, trial.w, trial.logq);
    // What is not finite is rejected by the chain, so it need not agree with anything.
    Tensor finite = trial.y.isfinite().flatten(1).all(1) & trial.w.isfinite().flatten(1).all(1) &
                    trial.logq.isfinite();
    for (Tensor* part : {&trial.noise, &trial.lag, &trial.y, &trial.w, &trial.logq})
        *part = part->index({finite});
    return trial;
}

static void compareDraws(FlowModule& module, const Trial& trial, const Tensor& other) {
    Tensor y, w, logq;
    module.sample(other, trial.noise, trial.lag, y, w, logq);
    double difference = (pairDistances(trial.y) - pairDistances(y)).abs().max().item<double>();
    if (!(difference <= INVERTIBILITY_TOLERANCE))
        report(module,
               "at an infinite lag time its samples depend on x; interatomic distances (in nm) change by",
               difference, INVERTIBILITY_TOLERANCE, trial.time);
    difference = (trial.logq - logq).abs().max().item<double>();
    if (!(difference <= DENSITY_TOLERANCE))
        report(module, "at an infinite lag time its density depends on x; log_q changes by", difference,
               DENSITY_TOLERANCE, trial.time);
}

static void checkIndependence(FlowModule& module, const Trial& trial, bool keepsNothing) {
    // Axes exchanged (a rotation) and stretched; an independent draw must not notice, beyond its frame in
    // space.
    if (keepsNothing) {
        compareDraws(module, trial, trial.x.index_select(1, torch::tensor({1, 2, 0})) * 1.1);
        return;
    }
    // Context atoms and kept lengths are those of x, and all else is elsewhere.
    compareDraws(module, trial, trial.y[0]);
    Tensor back = module.logProb(trial.y, trial.w, trial.y.flip(0), trial.lag);
    double difference = (back - trial.logq).abs().max().item<double>();
    if (!(difference <= DENSITY_TOLERANCE))
        report(module, "at an infinite lag time log_prob depends on x, by", difference, DENSITY_TOLERANCE,
               trial.time);
}

static void checkSeparateVelocities(FlowModule& module, const ModelMetadata& metadata, const Trial& trial) {
    Tensor moved = metadata.anyMolecule ? trial.w : rows(trial.w, metadata.moved);
    Tensor expected = trial.logq + 0.5 * moved.to(torch::kFloat64).square().sum({1, 2});
    Tensor difference =
            module.logProb(trial.y, torch::zeros_like(trial.w), trial.x.unsqueeze(0), trial.lag) - expected;
    difference = difference.index({difference.isfinite()}).abs();
    if (difference.numel() > 0 && !(difference.max().item<double>() <= DENSITY_TOLERANCE))
        report(module,
               "it states auxiliary_velocities = false but its density is not that of y times N(w; 0, I), by",
               difference.max().item<double>(), DENSITY_TOLERANCE, trial.time);
}

static void checkContext(FlowModule& module, const vector<int>& context, const Trial& trial) {
    double difference =
            (rows(trial.y, context) - rows(trial.x.unsqueeze(0), context)).abs().max().item<double>();
    if (difference != 0)
        report(module, "sample changes positions (in nm) of context atoms by", difference, 0, trial.time);
    vector<int64_t> indices(context.begin(), context.end());
    Tensor index = torch::tensor(indices);
    Tensor y = trial.y.index_add(1, index, torch::full_like(rows(trial.y, context), 0.05));
    Tensor w = trial.w.index_add(1, index, torch::ones_like(rows(trial.w, context)));
    difference =
            (module.logProb(y, w, trial.x.unsqueeze(0), trial.lag) - trial.logq).abs().max().item<double>();
    if (!(difference <= DENSITY_TOLERANCE))
        report(module, "log_prob depends on the rows of context atoms in y and w, by", difference,
               DENSITY_TOLERANCE, trial.time);
}

static void checkKeptLengths(const FlowModule& module, const ModelMetadata& metadata, const vector<int>& kept,
                             const Trial& trial) {
    double tolerance = metadata.doublePrecision ? 1e-12 : 1e-6;
    for (int index : kept) {
        auto [from, atom] = metadata.stretches[index];
        auto length = [from = from, atom = atom](const Tensor& positions) {
            return (positions.select(1, atom) - positions.select(1, from)).norm(2, 1);
        };
        double difference = (length(trial.y) - length(trial.x.unsqueeze(0))).abs().max().item<double>();
        if (!(difference <= tolerance))
            report(module,
                   "sample_constrained changes the length (in nm) of the bond between " +
                           metadata.describeAtom(from) + " and " + metadata.describeAtom(atom) +
                           ", which is to be kept, by",
                   difference, tolerance, trial.time);
    }
}

static void checkTrial(FlowModule& module, const ModelMetadata& metadata, const vector<int>& kept,
                       const Trial& trial) {
    if (trial.y.size(0) == 0)
        return;
    const Tensor x = trial.x.unsqueeze(0);
    checkDensity(module, module.logProb(trial.y, trial.w, x, trial.lag), trial.logq, trial.time);
    checkInvertibility(module, trial.x, module.invert(trial.y, trial.w, x, trial.lag), trial.lag, trial.y,
                       trial.time);
    const vector<int> context = metadata.contextAtoms();
    if (!context.empty())
        checkContext(module, context, trial);
    checkKeptLengths(module, metadata, kept, trial);
    if (isinf(trial.time))
        checkIndependence(module, trial, context.empty() && kept.empty());
    if (!metadata.auxiliaryVelocities)
        checkSeparateVelocities(module, metadata, trial);
}

/**
 * Which stretches are kept in a check: none, then all, then one alone.
 */
static vector<vector<int>> keptInChecks(const ModelMetadata& metadata) {
    vector<vector<int>> sets(1);
    if (metadata.stretches.empty())
        return sets;
    vector<int> all(metadata.stretches.size());
    iota(all.begin(), all.end(), 0);
    sets.push_back(all);
    if (all.size() > 1)
        sets.push_back({0});
    return sets;
}

void TimewarpPlugin::checkContract(FlowModule& module, const ModelMetadata& metadata) {
    if (metadata.referencePositions.empty())
        return;
    torch::InferenceMode inference;
    Tensor x = positionsTensor(metadata.referencePositions, module.getType());
    for (const vector<int>& kept : keptInChecks(metadata)) {
        module.setKeptStretches(kept);
        for (double time : metadata.lagTimes)
            checkTrial(module, metadata, kept, makeTrial(module, x, time));
    }
    module.setKeptStretches({});
}

static void requireInvariance(const FlowModule& module, const Tensor& change, double tolerance) {
    // What is not finite is rejected wherever it is.
    Tensor finite = change.index({change.isfinite()}).abs();
    if (finite.numel() > 0 && !(finite.max().item<double>() <= tolerance))
        throw OpenMMException(
                "Timewarp: the System has periodic boundary conditions, but proposals of the model " +
                module.getPath() +
                " depend on where its molecules lie, so that periodic images of one state would be "
                "different states; use a model that is invariant to the translation of each molecule "
                "(one of a single molecule in internal coordinates is), or build the System without "
                "periodic boundary conditions");
}

void TimewarpPlugin::checkTranslationInvariance(FlowModule& module, const ModelMetadata& metadata,
                                                const vector<Vec3>& state, const vector<Vec3>& shifts) {
    torch::InferenceMode inference;
    Tensor x = positionsTensor(state, module.getType()), noise = checkNoise(module);
    x = x - x.mean(0, true);
    Tensor shift = positionsTensor(shifts, module.getType());
    for (double time : metadata.lagTimes) {
        Tensor lag = torch::full({CHECK_BATCH}, time, module.getType());
        Tensor y, w, logq, y2, w2, logq2;
        module.sample(x, noise, lag, y, w, logq);
        module.sample(x + shift, noise, lag, y2, w2, logq2);
        for (Tensor* result : {&y, &w, &logq, &y2, &w2, &logq2})
            *result = result->to(torch::kCPU);
        Tensor back = module.logProb(y2, w2, (x + shift).unsqueeze(0), lag).to(torch::kCPU);
        for (const Tensor& change : {(y2 - y - shift).flatten(1), (w2 - w).flatten(1)})
            requireInvariance(module, change, TRANSLATION_TOLERANCE);
        for (const Tensor& change : {logq2 - logq, back - logq})
            requireInvariance(module, change, TRANSLATION_DENSITY_TOLERANCE);
    }
}

static vector<Vec3> positionsIn(const Tensor& tensor) {
    Tensor values = tensor.to(torch::kCPU, torch::kFloat64).contiguous();
    const double* data = values.data_ptr<double>();
    vector<Vec3> positions;
    for (int64_t i = 0; i < values.size(0); i++)
        positions.emplace_back(data[3 * i], data[3 * i + 1], data[3 * i + 2]);
    return positions;
}

KeptMotions TimewarpPlugin::findKeptMotions(FlowModule& module, const ModelMetadata& metadata,
                                            const vector<Vec3>& state, const vector<double>& lagWeights) {
    torch::InferenceMode inference;
    Tensor x = positionsTensor(state, module.getType()), noise = checkNoise(module);
    x = x - x.mean(0, true);
    vector<vector<Vec3>> proposals;
    for (size_t i = 0; i < metadata.lagTimes.size(); i++) {
        if (lagWeights[i] == 0)
            continue;
        Tensor y, w, logq;
        module.sample(x, noise, torch::full({CHECK_BATCH}, metadata.lagTimes[i], module.getType()), y, w,
                      logq);
        y = y.to(torch::kCPU);
        for (int64_t k = 0; k < y.size(0); k++)
            if (y[k].isfinite().all().item<bool>())
                proposals.push_back(positionsIn(y[k]));
    }
    return findKeptMotions(positionsIn(x), proposals);
}
