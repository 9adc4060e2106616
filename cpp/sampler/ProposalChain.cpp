#include "ProposalChain.h"
#include "IterationNoise.h"
#include "NoiseLayout.h"
#include "Sha256.h"
#include "TimewarpKernels.h"
#include "openmm/OpenMMException.h"
#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <openmm/reference/SimTKOpenMMRealType.h>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

static const int MAX_BATCH = 64;
// Cost of calling the model at all, in units of the cost of one more proposal in the batch.
static const double CALL_COST = 8.0;
static const chrono::milliseconds INTERRUPTION_CHECK_INTERVAL(100);

static TimewarpStateKernel& state(Kernel& kernel) {
    return kernel.getAs<TimewarpStateKernel>();
}

ProposalChain::ProposalChain(ProposalModel& model, Kernel kernel, int64_t seed,
                             const ChainSurroundings& surroundings)
        : model(model), kernel(kernel), surroundings(surroundings), numAtoms(0),
          lagWeights(model.getMetadata().lagWeights) {
    counters.seed = seed;
}

void ProposalChain::run(ContextImpl& context, const ChainSettings& settings, int iterations) {
    using Clock = chrono::steady_clock;
    Clock::time_point nextCheck = Clock::now() + INTERRUPTION_CHECK_INTERVAL;
    try {
        for (int i = 0; i < iterations; i++) {
            // Positions, box and parameters may have changed unseen since the last call, so the first
            // iteration always looks at them again.

            bool changed = context.updateContextState();
            if (i == 0 || changed)
                refreshState(context, settings, changed);
            iterate(context, settings);
            if (settings.interrupted != NULL && Clock::now() >= nextCheck) {
                if (settings.interrupted())
                    break;
                nextCheck = Clock::now() + INTERRUPTION_CHECK_INTERVAL;
            }
        }
    }
    catch (...) {
        // What has gone wrong first is what must be known.

        try {
            finishRun(context, settings);
        }
        catch (...) {
        }
        throw;
    }
    finishRun(context, settings);
}

void ProposalChain::chooseRandomNumbers(ContextImpl& context, const ChainSettings& settings) {
    // Replica exchange gives every replica the counters of one and the same integrator.  Each thermodynamic
    // state has random numbers of its own: replicas that shared them would not be independent, and their
    // exchanges would be biased.

    uint64_t current = TimewarpPlugin::thermodynamicState(settings.temperature, settings.forceGroups,
                                                          context.getParameters());
    if (thermodynamicStateIsKnown && current != thermodynamicState &&
        counters.iteration < counters.prefetchStart + counters.prefetchSize) {
        discardPrefetched();
        counters.numDiscarded++;
    }
    thermodynamicState = current;
    thermodynamicStateIsKnown = true;
}

void ProposalChain::refreshState(ContextImpl& context, const ChainSettings& settings, bool changedByForces) {
    chooseRandomNumbers(context, settings);
    bool moved = !state(kernel).positionsAreSaved(context);
    if (moved)
        takePositions(context);
    if (!counters.originKnown)
        chooseOrigin();
    if (!imagesAreChecked)
        checkImages(context, settings);
    double previousEnergy = stateEnergy;
    stateEnergy = computeEnergy(context, settings);

    // Positive infinity is all right: any proposal of a finite energy is better.

    if (isnan(stateEnergy) || stateEnergy == -numeric_limits<double>::infinity())
        throw OpenMMException(
                "Timewarp: the potential energy of the current state is NaN or minus infinity; set valid "
                "positions, for example by minimizing the energy, before stepping");

    // Forces that change the state at steps of their own (barostats) keep molecules where they are in the
    // box.

    bool changed = stateIsLoaded || (!changedByForces && (moved || stateEnergy != previousEnergy));
    stateIsLoaded = false;
    if (isfinite(stateEnergy) && rigidMotion.mustCompare(thermodynamicState, changed)) {
        guardRigidMotion(context, settings);
        rigidMotion.pass();
    }
}

static bool isFinite(const Vec3& position) {
    return isfinite(position[0]) && isfinite(position[1]) && isfinite(position[2]);
}

void ProposalChain::takePositions(ContextImpl& context) {
    vector<Vec3>& positions = previousPositions;
    state(kernel).getPositions(context, positions);
    for (size_t i = 0; i < positions.size(); i++)
        if (!isFinite(positions[i]))
            throw OpenMMException("Timewarp: the position of " + model.getMetadata().describeAtom(i) +
                                  " is not finite; set valid positions before stepping");
    statePositions.swap(positions);
    numAtoms = statePositions.size();
    state(kernel).savePositions(context);
    discardPrefetched();
    counters.stateLogDensityKnown = counters.stateSurrogateKnown = 0;
}

void ProposalChain::checkImages(ContextImpl& context, const ChainSettings& settings) {
    DeviceLoan loan(state(kernel), context);
    surroundings.images.check(loan, model, statePositions);
    if (surrogate != NULL)
        surroundings.images.check(loan, *surrogate, context, statePositions, BOLTZ * settings.temperature);
    imagesAreChecked = true;
}

void ProposalChain::chooseOrigin() {
    Vec3 sum;
    for (const Vec3& position : statePositions)
        sum += position;
    for (int j = 0; j < 3; j++)
        counters.origin[j] = sum[j] / statePositions.size();
    counters.originKnown = 1;
}

void ProposalChain::guardRigidMotion(ContextImpl& context, const ChainSettings& settings) {
    vector<Vec3> all;
    if (!rigidMotion.isKnown()) {
        context.getPositions(all);
        DeviceLoan loan(state(kernel), context);
        KeptMotions kept = surroundings.keptByOthers(context, all, loan);
        if (kept.any())
            kept.join(model.findKeptMotions(loan, shifted(statePositions), lagWeights));
        rigidMotion.setKept(kept);
    }
    vector<vector<Vec3>> copies = rigidMotion.movedCopies(statePositions);
    if (copies.empty())
        return;
    vector<Vec3> forces;
    computeEnergy(context, settings, true);
    context.getForces(all);
    for (int particle : surroundings.particles)
        forces.push_back(all[particle]);
    double threshold =
            RigidMotion::threshold(stateEnergy, BOLTZ * settings.temperature, statePositions, forces);
    for (double energy : energiesOf(context, settings, copies))
        if (!(fabs(energy - stateEnergy) <= threshold))
            rigidMotion.refuse(energy - stateEnergy);
}

vector<double> ProposalChain::energiesOf(ContextImpl& context, const ChainSettings& settings,
                                         const vector<vector<Vec3>>& states) {
    // They take the place of the proposals that the platform holds; what is ahead is computed again.

    prefetchIsComputed = false;
    vector<double> positions, energies;
    for (const vector<Vec3>& copy : states)
        for (const Vec3& p : copy)
            positions.insert(positions.end(), {p[0], p[1], p[2]});
    state(kernel).setProposals(context, positions, Vec3());
    try {
        for (size_t i = 0; i < states.size(); i++) {
            state(kernel).applyProposal(context, i);
            energies.push_back(computeEnergy(context, settings));
        }
    }
    catch (...) {
        restorePositions(context);
        throw;
    }
    restorePositions(context);
    return energies;
}

Vec3 ProposalChain::origin() const {
    return Vec3(counters.origin[0], counters.origin[1], counters.origin[2]);
}

const vector<Vec3>& ProposalChain::shifted(const vector<Vec3>& positions) {
    shiftedPositions = positions;
    for (Vec3& position : shiftedPositions)
        position -= origin();
    return shiftedPositions;
}

void ProposalChain::iterate(ContextImpl& context, const ChainSettings& settings) {
    if (surrogate == NULL)
        tryNextProposal(context, settings);
    else
        tryNextSubchain(context, settings);
    counters.numSteps++;
    context.setTime(context.getTime() + settings.stepSize);
    context.setStepCount(context.getStepCount() + 1);
}

void ProposalChain::tryNextProposal(ContextImpl& context, const ChainSettings& settings) {
    int64_t entry = nextEntry(context, settings, NULL);
    bool accepted = tryProposal(context, settings, entry);
    noteVelocities(entry, accepted);
    counters.iteration++;
}

int64_t ProposalChain::nextEntry(ContextImpl& context, const ChainSettings& settings, Subchain* subchain) {
    if (counters.prefetchSize > 0 && !prefetchIsComputed)
        prefetch(context, counters.prefetchStart, counters.prefetchSize, false);
    int64_t entry = counters.iteration - counters.prefetchStart;
    if (entryIsUsable(entry))
        return entry;
    if (entry < counters.prefetchSize)
        counters.numDiscarded++;
    if (subchainMoved) {
        bringToContext(context, *subchain);
        state(kernel).getPositions(context, prefetchPositions);
    }
    else
        prefetchPositions = statePositions;
    prefetch(context, counters.iteration, chooseBatchSize(settings), true);
    counters.positionsMoved = 0;
    return 0;
}

void ProposalChain::tryNextSubchain(ContextImpl& context, const ChainSettings& settings) {
    Subchain subchain = beginSubchain(context);
    bool accepted;
    try {
        for (int i = 0; i < settings.subchainLength; i++)
            growSubchain(context, settings, subchain);
        accepted = subchainMoved && acceptsSubchain(context, settings, subchain);
    }
    catch (...) {
        undoSubchain(context, subchain);
        throw;
    }
    if (!subchainMoved)
        return;
    if (accepted) {
        counters.stateSurrogate = subchain.surrogate;
        subchainMoved = false;
    }
    else {
        // The rejected move began with the first auxiliary velocities, so they are what it returns to.

        undoSubchain(context, subchain);
        lastAccepted = -1;
        lastRejected = subchain.firstIteration;
    }
}

ProposalChain::Subchain ProposalChain::beginSubchain(ContextImpl& context) {
    if (!counters.stateSurrogateKnown) {
        DeviceLoan loan(state(kernel), context);
        counters.stateSurrogate = surrogate->compute(loan, statePositions);
        counters.stateSurrogateKnown = 1;
    }
    double energy = counters.stateSurrogate;
    if (!isfinite(energy))
        throw OpenMMException("Timewarp: the surrogate's energy of the current state is not finite, so no "
                              "proposal could ever be accepted from it; start from another conformation, "
                              "or do without a surrogate");
    return {energy, energy, counters.stateLogDensityKnown, counters.stateLogDensity, counters.iteration};
}

void ProposalChain::growSubchain(ContextImpl& context, const ChainSettings& settings, Subchain& subchain) {
    int64_t entry = nextEntry(context, settings, &subchain);
    double kT = BOLTZ * settings.temperature, energy = surrogateEnergies[entry];
    bool possible = proposalIsFinite(entry) && isfinite(energy);
    counters.numNonFinite += !possible;
    bool accepted = possible &&
                    draws.logUniform[entry] < logAcceptance(context, entry, energy - subchain.surrogate, kT);
    noteVelocities(entry, accepted);
    subchain.secondLogUniform = draws.secondLogUniform[entry];
    counters.iteration++;
    if (!accepted)
        return;
    subchain.surrogate = energy;
    subchain.pending = entry;
    subchainMoved = true;
    subchain.leftFrame = subchain.leftFrame || !model.isIndependentDraw(draws.lags[entry]);
    counters.numSurrogateAccepted++;
    leaveStateFor(entry);
}

double ProposalChain::logSecondAcceptance(double energyChange, double surrogateChange, double kT) const {
    return -(energyChange - surrogateChange) / kT;
}

bool ProposalChain::acceptsSubchain(ContextImpl& context, const ChainSettings& settings, Subchain& subchain) {
    bringToContext(context, subchain);
    double newEnergy = computeEnergy(context, settings);
    double logRatio =
            logSecondAcceptance(newEnergy - stateEnergy, subchain.surrogate - subchain.startSurrogate,
                                BOLTZ * settings.temperature);
    if (!isfinite(newEnergy) || !(subchain.secondLogUniform < logRatio))
        return false;
    settle(context, newEnergy);
    return true;
}

void ProposalChain::bringToContext(ContextImpl& context, Subchain& subchain) {
    // Only the last one accepted, and before the batch that holds it is replaced.

    if (subchain.pending >= 0)
        state(kernel).applyProposal(context, subchain.pending);
    subchain.pending = -1;
}

void ProposalChain::undoSubchain(ContextImpl& context, const Subchain& subchain) {
    restorePositions(context);
    if (!subchainMoved)
        return;
    subchainMoved = false;
    counters.stateLogDensityKnown = subchain.startLogDensityKnown;
    counters.stateLogDensity = subchain.startLogDensity;

    // Proposals prefetched in another frame are not those of the state to which the chain returns.

    if (subchain.leftFrame)
        discardPrefetched();
    counters.positionsMoved = (counters.prefetchSize > 0 && prefetchPositions != statePositions);
}

void ProposalChain::noteVelocities(int64_t entry, bool accepted) {
    lastAccepted = (accepted ? entry : -1);
    lastRejected = (accepted ? -1 : counters.iteration);
}

void ProposalChain::fetchVelocities(ContextImpl& context) {
    if (lastAccepted >= 0) {
        DeviceLoan loan(state(kernel), context);
        model.getVelocities(loan, lastAccepted, lastVelocities);
    }
    if (lastRejected >= 0) {
        lastVelocities.resize(3 * numAtoms);
        IterationNoise(randomKey(), lastRejected, NoiseLayout::FIRST_NORMAL_BLOCK)
                .normal(lastVelocities.data(), lastVelocities.size());
    }
    lastAccepted = lastRejected = -1;
}

bool ProposalChain::entryIsUsable(int64_t entry) const {
    if (entry < 0 || entry >= counters.prefetchSize)
        return false;
    return !counters.positionsMoved || model.isIndependentDraw(draws.lags[entry]);
}

void ProposalChain::discardPrefetched() {
    counters.prefetchSize = 0;
    prefetchPositions.clear();
}

void ProposalChain::setSurrogate(SurrogateEnergy* newSurrogate) {
    surrogate = newSurrogate;
    counters.stateSurrogateKnown = 0;
}

void ProposalChain::setLagWeights(const vector<double>& weights) {
    if (weights == lagWeights)
        return;
    lagWeights = weights;
    discardPrefetched();
    rigidMotion.reset();
}

bool ProposalChain::drawsOnlyIndependently() const {
    const vector<double>& lags = model.getMetadata().lagTimes;
    for (size_t i = 0; i < lags.size(); i++)
        if (lagWeights[i] > 0 && !model.isIndependentDraw(lags[i]))
            return false;
    return true;
}

int ProposalChain::chooseBatchSize(const ChainSettings& settings) const {
    if (settings.batchSize > 0)
        return settings.batchSize;

    // With a chance p per iteration that the prefetched proposals become worthless, a batch of B serves about
    // (1-(1-p)^B)/p iterations and costs CALL_COST+B.  For small p the best B is near sqrt(2 CALL_COST/p).

    double p = (counters.numDiscarded + 1.0) / (counters.iteration + 2.0);
    double best = min<double>(MAX_BATCH, max(1.0, sqrt(2 * CALL_COST / p) - CALL_COST * p));

    // Every size that is used costs the recording of a graph, so that there are few: the powers of two.

    return model.usesGraphs() ? 1 << lround(log2(best)) : lround(best);
}

RandomKey ProposalChain::randomKey() const {
    return RandomKey({counters.seed, thermodynamicState, counters.replica, surroundings.number});
}

void ProposalChain::draw(ContextImpl& context, int64_t start, const ProposalInputs& inputs, Draws& draws) {
    const ModelMetadata& metadata = model.getMetadata();
    draws.logUniform.resize(inputs.size);
    draws.secondLogUniform.resize(inputs.size);
    draws.lags.resize(inputs.size);
    int afterNormals = NoiseLayout::FIRST_NORMAL_BLOCK + NoiseLayout::numBlocks(3 * inputs.numAtoms) +
                       NoiseLayout::numBlocks(inputs.noiseSize);
    for (int i = 0; i < inputs.size; i++) {
        IterationNoise first(randomKey(), start + i), last(randomKey(), start + i, afterNormals);
        draws.logUniform[i] = log(first.uniform());
        draws.lags[i] = metadata.pickLag(first.uniform(), lagWeights);
        draws.secondLogUniform[i] = log(last.uniform());
    }
    state(kernel).drawNormals(context, inputs, randomKey(), start);
}

void ProposalChain::makeInputs(ContextImpl& context, int64_t start, int64_t size, bool fromContext) {
    ProposalInputs inputs;
    {
        DeviceLoan loan(state(kernel), context);
        inputs = model.prepareInputs(loan, size, numAtoms);

        // Proposals that a checkpoint asks for may have been prefetched before the state moved on.

        if (!fromContext)
            model.setState(loan, shifted(prefetchPositions));
    }
    draw(context, start, inputs, draws);
    if (fromContext)
        state(kernel).writeState(context, inputs, origin());
}

void ProposalChain::prefetch(ContextImpl& context, int64_t start, int64_t size, bool fromContext) {
    // Until it is whole there is none, in case the model fails.

    counters.prefetchSize = 0;
    if (lastAccepted >= 0)
        fetchVelocities(context);
    makeInputs(context, start, size, fromContext);
    {
        DeviceLoan loan(state(kernel), context);
        model.propose(loan, draws.lags, batch);
        if (surrogate != NULL)
            surrogate->compute(loan, batch, numAtoms, origin(), surrogateEnergies);
    }
    if (batch.onDevice.address == NULL)
        state(kernel).setProposals(context, batch.positions, origin());
    else
        state(kernel).setDeviceProposals(context, batch.onDevice.address, batch.size, origin());
    counters.prefetchStart = start;
    counters.prefetchSize = size;
    prefetchIsComputed = true;
}

bool ProposalChain::proposalIsFinite(int64_t entry) const {
    // A way back of density zero is honest; it rejects.

    bool reverse = model.isIndependentDraw(draws.lags[entry]) ||
                   batch.logReverse[entry] < numeric_limits<double>::infinity();
    return batch.isFinite[entry] && isfinite(batch.logForward[entry]) && reverse;
}

double ProposalChain::independentLogDensity(ContextImpl& context) {
    if (!counters.stateLogDensityKnown) {
        // In a subchain it is unknown after a move of a finite lag time, and then proposals have been
        // prefetched anew from where that led.

        const vector<Vec3>& positions = (subchainMoved ? prefetchPositions : statePositions);
        DeviceLoan loan(state(kernel), context);
        counters.stateLogDensity = model.independentLogDensity(loan, shifted(positions));
        counters.stateLogDensityKnown = 1;
    }
    if (isfinite(counters.stateLogDensity))
        return counters.stateLogDensity;
    if (drawsOnlyIndependently())
        throw OpenMMException("Timewarp: the current conformation is none that the model can propose "
                              "(its density is zero), "
                              "so no proposal could ever be accepted from it: a chiral centre, a cis or "
                              "trans bond or a ring "
                              "differs from the model's training data. Start from another conformation, "
                              "or fit a model to "
                              "data that have this one");

    // Moves of a finite lag time may lead away from here.

    return -numeric_limits<double>::infinity();
}

double ProposalChain::logAcceptance(ContextImpl& context, int64_t entry, double energyChange, double kT) {
    double logRatio = -energyChange / kT;
    double logW = batch.logVelocities[entry];
    if (model.isIndependentDraw(draws.lags[entry]))
        return logRatio + independentLogDensity(context) - (batch.logForward[entry] - logW);
    return logRatio + logW - batch.logAuxiliary[entry] + batch.logReverse[entry] - batch.logForward[entry];
}

bool ProposalChain::tryProposal(ContextImpl& context, const ChainSettings& settings, int64_t entry) {
    if (!proposalIsFinite(entry)) {
        counters.numNonFinite++;
        return false;
    }
    double newEnergy;
    bool accept;
    try {
        state(kernel).applyProposal(context, entry);
        newEnergy = computeEnergy(context, settings);

        // A comparison with NaN is false, so whatever cannot be computed is rejected.  The model may be asked
        // for the density of the state here, and it may fail or be interrupted.

        double kT = BOLTZ * settings.temperature;
        accept = isfinite(newEnergy) &&
                 draws.logUniform[entry] < logAcceptance(context, entry, newEnergy - stateEnergy, kT);
    }
    catch (...) {
        restorePositions(context);
        throw;
    }
    if (!accept) {
        restorePositions(context);
        return false;
    }
    settle(context, newEnergy);
    if (statePositions != previousPositions)
        leaveStateFor(entry);
    return true;
}

void ProposalChain::settle(ContextImpl& context, double newEnergy) {
    // The platform may have rounded the positions, and the next proposals must be made from those that it
    // has.

    state(kernel).reorderAtoms(context);
    state(kernel).savePositions(context);
    counters.numAccepted++;
    stateEnergy = newEnergy;
    statePositions.swap(previousPositions);
    state(kernel).getPositions(context, statePositions);
}

void ProposalChain::leaveStateFor(int64_t entry) {
    counters.stateLogDensityKnown = 0;
    if (model.isIndependentDraw(draws.lags[entry])) {
        counters.positionsMoved = 1;
        counters.stateLogDensity = batch.logForward[entry] - batch.logVelocities[entry];
        counters.stateLogDensityKnown = 1;
    }
    else {
        counters.numDiscarded++;
        discardPrefetched();
    }
}

double ProposalChain::computeEnergy(ContextImpl& context, const ChainSettings& settings,
                                    bool withForces) const {
    context.computeVirtualSites();
    return context.calcForcesAndEnergy(withForces, true, settings.forceGroups);
}

void ProposalChain::restorePositions(ContextImpl& context) {
    // Virtual sites that depend on the model's atoms go back with them.

    state(kernel).restorePositions(context);
    context.computeVirtualSites();
}

void ProposalChain::writeVelocities(ContextImpl& context, const ChainSettings& settings) {
    fetchVelocities(context);
    if (lastVelocities.empty())
        return;
    double kT = BOLTZ * settings.temperature;
    surroundings.centerOfMass.remove(context, lastVelocities, kT);
    state(kernel).setVelocities(context, lastVelocities.data(), kT);
    lastVelocities.clear();
}

void ProposalChain::finishRun(ContextImpl& context, const ChainSettings& settings) {
    // Other integrators of a CompoundIntegrator keep forces that hold no more: because of new positions, or,
    // on a GPU, because energies were computed in the same place.  They must hear of it whatever goes wrong.

    try {
        writeVelocities(context, settings);
    }
    catch (...) {
        context.systemChanged();
        throw;
    }
    context.systemChanged();
}

ChainState ProposalChain::getState(ContextImpl& context) const {
    ChainState current{counters, lagWeights, prefetchPositions, digestOfPositions(statePositions),
                       surrogateDigest()};
    if (!state(kernel).positionsAreSaved(context)) {
        current.counters.prefetchSize = 0;
        current.counters.stateLogDensityKnown = current.counters.stateSurrogateKnown = 0;
    }
    if (current.counters.prefetchSize == 0)
        current.prefetchPositions.clear();
    return current;
}

void ProposalChain::setState(ContextImpl& context, const ChainState& newState) {
    setLagWeights(newState.lagWeights);
    counters = newState.counters;
    prefetchPositions = newState.prefetchPositions;
    prefetchIsComputed = false;
    thermodynamicStateIsKnown = false;
    stateIsLoaded = true;
    state(kernel).getPositions(context, statePositions);
    numAtoms = statePositions.size();

    // Others are taken, and refused, at the next step.

    if (all_of(statePositions.begin(), statePositions.end(), isFinite))
        state(kernel).savePositions(context);
    if (digestOfPositions(statePositions) != newState.positionsDigest) {
        discardPrefetched();
        counters.stateLogDensityKnown = counters.stateSurrogateKnown = 0;
    }
    if (newState.surrogateDigest != surrogateDigest())
        counters.stateSurrogateKnown = 0;
}

string ProposalChain::surrogateDigest() const {
    return surrogate == NULL ? sha256(string()) : surrogate->getSha256();
}

void ProposalChain::setSeed(int64_t seed, bool isSet) {
    counters.seedIsSet = isSet;
    if (seed == counters.seed)
        return;
    counters.seed = seed;
    discardPrefetched();
}

double ProposalChain::computeKineticEnergy(ContextImpl& context) {
    return state(kernel).computeKineticEnergy(context);
}
