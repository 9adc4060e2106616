#include "FlowMove.h"
#include "IterationNoise.h"
#include "NoiseLayout.h"
#include "Sha256.h"
#include "TimewarpKernels.h"
#include "TryGroups.h"
#include "openmm/OpenMMException.h"
#include <algorithm>
#include <cmath>
#include <limits>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

static const int MAX_BATCH = 64;
// More than anybody computes ahead; a larger number is a damaged one.
static const int64_t MAX_PREFETCHED = 1 << 20;
// Cost of calling the model at all, in units of the cost of one more proposal in the batch.
static const double CALL_COST = 8.0;
// How far a block may be carried from the origin before that is chosen anew (nm).  Single precision is finer
// than 1e-6 nm up to 8 nm.
static const double FARTHEST_ORIGIN = 4.0;
// How far constrained lengths may be off in a state, in units of the constraint tolerance: other integrators
// have tolerances of their own, and single precision adds its rounding.
static const double LARGEST_LENGTH_ERROR = 10.0;

FlowMove::FlowMove(shared_ptr<ProposalModel> model, const Kernel& kernel,
                   const BlockSurroundings& surroundings)
        : model(model), positions(kernel), surroundings(surroundings),
          lagWeights(model->getMetadata().lagWeights) {
}

void FlowMove::setLagWeights(const vector<double>& weights) {
    if (weights == lagWeights)
        return;
    lagWeights = weights;
    prefetch.discard();
    guard.reset();
}

void FlowMove::discardPrefetched() {
    prefetch.discard();
}

/*
 * Looking at the state.
 */

void FlowMove::look(Target& target) {
    if (prefetch.isOfOther(target.getRandomKey(surroundings.number))) {
        // Replica exchange gives every replica the counters of one and the same integrator.  Each
        // thermodynamic state has random numbers of its own: replicas that shared them would not be
        // independent, and their exchanges would be biased.

        counters.numDiscarded += prefetch.includes(counters.iteration);
        prefetch.discard();
        prefetch.mustBeComputedAgain();
    }
    foundMoved = !positions.areTheContexts(target.getContext());
    if (foundMoved)
        takePositions(target);
    imposeLengths(target);
    seen = target.getRevision();
    if (!originIsKnown)
        chooseOrigin();
    if (!imagesAreChecked) {
        DeviceLoan loan(positions.getKernel(), target.getContext());
        surroundings.images.check(loan, *model, positions.get());
        imagesAreChecked = true;
    }
}

void FlowMove::takePositions(Target& target) {
    positions.take(target.getContext(),
                   [this](size_t atom) { return model->getMetadata().describeAtom(atom); });
    state.revision = state.frame = ++lastRevision;
    prefetch.discard();
    if (!originIsKnown || !surroundings.images.exist())
        return;
    Vec3 distance = positions.getCentroid() - origin;
    if (distance.dot(distance) > FARTHEST_ORIGIN * FARTHEST_ORIGIN)
        chooseOrigin();
}

void FlowMove::imposeLengths(Target& target) {
    // Dynamics would do it in their first step.

    ContextImpl& context = target.getContext();
    const double tolerance = context.getIntegrator().getConstraintTolerance();
    if (!(surroundings.metric.lengthError(positions.get()) > LARGEST_LENGTH_ERROR * tolerance))
        return;
    vector<double> corrected;
    for (const Vec3& p : positions.get())
        corrected.insert(corrected.end(), {p[0], p[1], p[2]});
    surroundings.metric.imposeLengths(corrected);
    writePositions(target, corrected);
    takePositions(target);
    target.noteCorrection();
}

void FlowMove::writePositions(Target& target, const vector<double>& coordinates) {
    // They take the place of the proposals that the platform holds.

    positions.getKernel().setProposals(target.getContext(), coordinates, Vec3());
    positions.getKernel().applyProposal(target.getContext(), 0);
}

void FlowMove::chooseOrigin() {
    origin = positions.getCentroid();
    originIsKnown = true;
}

const vector<Vec3>& FlowMove::shifted(const vector<Vec3>& absolute) {
    shiftedPositions = absolute;
    for (Vec3& position : shiftedPositions)
        position -= origin;
    return shiftedPositions;
}

void FlowMove::guardRigidMotion(Target& target) {
    const Target::Change& change = target.getLastChange();
    if (guarded == change.number)
        return;
    guarded = change.number;

    // Forces that change the state at steps of their own (barostats) keep molecules where they are in the
    // box.

    bool changed = change.byLoading || (!change.byForces && (foundMoved || change.ofEnergy));
    if (!isfinite(target.getEnergy()) || !guard.mustCompare(target.getThermodynamicState(), changed))
        return;
    if (!guard.isKnown())
        findKeptMotions(target);
    const vector<RigidMotion> motions = guard.motionsToCompare();
    if (!motions.empty()) {
        const double threshold = changeThatCounts(target);
        const vector<double> energies = energiesAfter(target, motions);
        RigidMotions felt;
        double energyChange = 0;
        for (size_t i = 0; i < motions.size(); i++)
            if (!(fabs(energies[i] - target.getEnergy()) <= threshold)) {
                felt.join({motions[i].angle == 0, motions[i].angle != 0});
                energyChange = energies[i] - target.getEnergy();
            }
        const RigidMotions needed = guard.findNeeded(felt);
        if (!surroundings.rigidMoves.allows(needed))
            guard.refuse(energyChange);
        if (needed.any()) {
            RigidMotions made = guard.getMade();
            made.join(needed);
            guard.setMade(made);
        }
    }
    guard.pass();
}

void FlowMove::findKeptMotions(Target& target) {
    ContextImpl& context = target.getContext();
    vector<Vec3> all;
    context.getPositions(all);
    DeviceLoan loan(positions.getKernel(), context);
    KeptMotions kept = surroundings.keptByOthers(context, all, loan);
    if (kept.any())
        kept.join(model->findKeptMotions(loan, shifted(positions.get()), lagWeights));
    guard.setKept(kept);
}

double FlowMove::changeThatCounts(Target& target) {
    const vector<Vec3>& all = target.getForces();
    vector<Vec3> forces;
    for (int particle : surroundings.particles)
        forces.push_back(all[particle]);
    return RigidMotionGuard::threshold(target.getEnergy(), target.getKT(), positions.get(), forces);
}

vector<double> FlowMove::energiesAfter(Target& target, const vector<RigidMotion>& motions) {
    // They take the place of the proposals that the platform holds; what is ahead is computed again.

    prefetch.mustBeComputedAgain();
    vector<double> proposed, energies;
    for (const RigidMotion& motion : motions)
        for (const Vec3& p : motion.apply(positions.get()))
            proposed.insert(proposed.end(), {p[0], p[1], p[2]});
    TimewarpStateKernel& kernel = positions.getKernel();
    kernel.setProposals(target.getContext(), proposed, Vec3());
    try {
        for (size_t i = 0; i < motions.size(); i++) {
            kernel.applyProposal(target.getContext(), i);
            energies.push_back(target.computeEnergy());
        }
    }
    catch (...) {
        positions.restore(target.getContext());
        throw;
    }
    positions.restore(target.getContext());
    return energies;
}

/*
 * Batches of proposals.
 */

bool FlowMove::isDraw(int64_t entry) const {
    return model->isIndependentDraw(prefetch.draws.lags[entry]);
}

bool FlowMove::holds(int64_t entry) const {
    if (entry < 0 || entry >= prefetch.getSize())
        return false;
    if (prefetch.madeFrom.revision == state.revision)
        return true;
    return prefetch.madeFrom.frame == state.frame && isDraw(entry) &&
           !prefetch.draws.latentSteps[entry].knowsState();
}

int64_t FlowMove::next(Target& target) {
    if (prefetch.getSize() > 0 && !prefetch.isComputed())
        compute(target, prefetch.getStart(), prefetch.getSize(), false);
    int64_t entry = counters.iteration - prefetch.getStart();
    if (holds(entry))
        return entry;
    if (entry < prefetch.getSize())
        counters.numDiscarded++;
    computeFromState(target, withoutAlternatives(target, min(chooseBatchSize(), target.getLookAhead())));
    return 0;
}

int64_t FlowMove::withoutAlternatives(Target& target, int64_t size) const {
    if (latentSteps.empty() || tryLength == 1)
        return size;
    const int64_t start = counters.iteration;
    int64_t end = groupEnd(start);
    while (end < start + size && !areAlternatives(drawGroup(target, end).second))
        end = groupEnd(end);
    return min(size, end - start);
}

void FlowMove::computeFromState(Target& target, int64_t size) {
    if (away) {
        bringToContext(target);
        positions.getKernel().getPositions(target.getContext(), prefetch.positions);
    }
    else
        prefetch.positions = positions.get();
    prefetch.madeFrom = state;
    compute(target, counters.iteration, size, true);
}

int FlowMove::chooseBatchSize() const {
    if (batchSize > 0)
        return batchSize;

    // With a chance p per iteration that the prefetched proposals become worthless, a batch of B serves about
    // (1-(1-p)^B)/p iterations and costs CALL_COST+B.  For small p the best B is near sqrt(2 CALL_COST/p).

    double p = (counters.numDiscarded + 1.0) / (counters.iteration + 2.0);
    double best = min<double>(MAX_BATCH, max(1.0, sqrt(2 * CALL_COST / p) - CALL_COST * p));

    // Every size that is used costs the recording of a graph, so that there are few: the powers of two.

    return model->usesGraphs() ? 1 << lround(log2(best)) : lround(best);
}

int FlowMove::afterNormals() const {
    return NoiseLayout::FIRST_NORMAL_BLOCK + NoiseLayout::numBlocks(3 * positions.get().size()) +
           NoiseLayout::numBlocks(model->getMetadata().noiseSize);
}

void FlowMove::draw(Target& target, int64_t start, const ProposalInputs& inputs, Draws& draws) {
    const RandomKey key = target.getRandomKey(surroundings.number);
    draws.resize(inputs.size);
    for (int i = 0; i < inputs.size; i++) {
        IterationNoise first(key, start + i), last(key, start + i, afterNormals());
        draws.logUniform[i] = log(first.uniform());
        draws.lags[i] = model->getMetadata().pickLag(first.uniform(), lagWeights);
        draws.secondLogUniform[i] = log(last.uniform());
        auto [lag, step] = drawGroup(target, groupStart(start + i));
        draws.latentSteps[i] = step;
        if (areAlternatives(step))
            draws.lags[i] = lag;
    }
    drawCorrelations(target, start, inputs.noiseSize, draws);
    positions.getKernel().drawNormals(target.getContext(), inputs, key, start);
}

/*
 * Groups of iterations.
 */

static int64_t roundDown(int64_t number, int64_t multiple) {
    int64_t rest = number % multiple;
    return number - (rest < 0 ? rest + multiple : rest);
}

int64_t FlowMove::groupStart(int64_t iteration) const {
    const int64_t start = tryStart + roundDown(iteration - tryStart, tryLength);
    return start + groupInTry(iteration - start, tryLength).start;
}

int64_t FlowMove::groupEnd(int64_t iteration) const {
    const int64_t start = tryStart + roundDown(iteration - tryStart, tryLength);
    return start + groupInTry(iteration - start, tryLength).end;
}

bool FlowMove::areAlternatives(const LatentStep& step) const {
    return tryLength > 1 && step.knowsState();
}

pair<double, LatentStep> FlowMove::drawGroup(Target& target, int64_t start) const {
    if (latentSteps.empty())
        return {};
    const RandomKey key = target.getRandomKey(surroundings.number);
    IterationNoise first(key, start), last(key, start, afterNormals());
    first.uniform();
    const double lag = model->getMetadata().pickLag(first.uniform(), lagWeights);
    last.uniform();
    return {lag, pickLatentStep(lag, last.uniform())};
}

void FlowMove::setTryLength(int iterations) {
    if (iterations != tryLength && !latentSteps.empty())
        prefetch.discard();
    tryLength = iterations;
}

int FlowMove::countAlternatives(Target& target) const {
    const int64_t iteration = counters.iteration;
    const bool are = areAlternatives(drawGroup(target, groupStart(iteration)).second);
    return are ? groupEnd(iteration) - iteration : 0;
}

void FlowMove::endAlternatives(int64_t chosen) {
    const int64_t number = prefetch.getSize();
    endIteration(chosen, chosen >= 0);
    counters.iteration += number - 1;
    if (chosen >= 0)
        goTo(chosen);

    // Those that were not chosen are used up.

    prefetch.discard();
}

LatentStep FlowMove::pickLatentStep(double lag, double deviate) const {
    if (!model->isIndependentDraw(lag))
        return {};
    double sum = 0;
    for (auto& choice : latentSteps)
        sum += choice.second;
    double target = deviate * sum;
    for (auto& choice : latentSteps) {
        target -= choice.second;
        if (choice.second > 0 && target <= 0)
            return choice.first;
    }
    return {};
}

void FlowMove::drawCorrelations(Target& target, int64_t start, int noiseSize, Draws& draws) const {
    auto knowsState = [](const LatentStep& step) { return step.knowsState(); };
    if (none_of(draws.latentSteps.begin(), draws.latentSteps.end(), knowsState))
        return;
    const RandomKey key = target.getRandomKey(surroundings.number);
    draws.correlations.assign(draws.latentSteps.size() * noiseSize, 1.0);
    double* correlation = draws.correlations.data();
    for (size_t i = 0; i < draws.latentSteps.size(); i++, correlation += noiseSize) {
        const LatentStep& step = draws.latentSteps[i];

        // Alternatives draw the same variables, and are correlated with what they have in common, as that is
        // with the state.

        if (i > 0 && areAlternatives(step)) {
            copy_n(correlation - noiseSize, noiseSize, correlation);
            continue;
        }
        IterationNoise noise(key, groupStart(start + i), NoiseLayout::FIRST_LATENT_BLOCK);
        const double rho = areAlternatives(step) ? sqrt(step.correlation) : step.correlation;
        if (step.torsions > 0)
            for (int k : chooseTorsions(step.torsions, noise))
                correlation[k] = rho;
        else
            for (int k = 0; k < noiseSize; k++)
                if (step.share == 1 || noise.uniform() <= step.share)
                    correlation[k] = rho;
    }
    if (!areAlternatives(draws.latentSteps[0]) || draws.latentSteps[0].correlation == 0)
        return;
    draws.common.resize(noiseSize);
    IterationNoise(key, groupStart(start), NoiseLayout::FIRST_COMMON_BLOCK)
            .normal(draws.common.data(), noiseSize);
}

vector<int> FlowMove::chooseTorsions(int number, IterationNoise& noise) const {
    vector<int> torsions = model->getMetadata().torsionNoise;
    const int size = torsions.size(), chosen = min(number, size);
    for (int k = 0; k < chosen; k++)
        swap(torsions[k], torsions[k + min<int>(noise.uniform() * (size - k), size - k - 1)]);
    torsions.resize(chosen);
    return torsions;
}

void FlowMove::setLatentCorrelations(const vector<pair<LatentStep, double>>& choices) {
    if (choices == latentSteps)
        return;
    latentSteps = choices;
    prefetch.discard();
}

void FlowMove::makeInputs(Target& target, int64_t start, int64_t size, bool fromContext) {
    ContextImpl& context = target.getContext();
    ProposalInputs inputs;
    {
        DeviceLoan loan(positions.getKernel(), context);
        model->setKeptStretches(surroundings.keptStretches);
        inputs = model->prepareInputs(loan, size, positions.get().size());

        // Proposals that a checkpoint asks for may have been prefetched before the state moved on.

        if (!fromContext)
            model->setState(loan, shifted(prefetch.positions));
    }
    draw(target, start, inputs, prefetch.draws);
    if (fromContext)
        positions.getKernel().writeState(context, inputs, origin);
}

void FlowMove::compute(Target& target, int64_t start, int64_t size, bool fromContext) {
    // Until it is whole there is none, in case the model fails.  A State that is saved then has the positions
    // of none, either.

    ContextImpl& context = target.getContext();
    prefetch.recall(start, 0);
    if (lastAccepted >= 0)
        fetchVelocities(target);
    makeInputs(target, start, size, fromContext);
    ProposalBatch& batch = prefetch.batch;
    {
        DeviceLoan loan(positions.getKernel(), context);
        if (!prefetch.draws.correlations.empty())
            model->correlateNoise(loan, prefetch.draws.correlations, prefetch.draws.common);
        model->propose(loan, prefetch.draws.lags, batch);

        // Lengths are imposed there.

        if (!surroundings.metric.getBonds().empty())
            model->bringToHost(loan, batch);
    }
    TimewarpStateKernel& kernel = positions.getKernel();
    prefetch.origin = origin;
    if (batch.onDevice.address == NULL) {
        surroundings.metric.imposeLengths(batch.positions);
        kernel.setProposals(context, batch.positions, origin);
    }
    else
        kernel.setDeviceProposals(context, batch.onDevice.address, batch.size, origin);
    prefetch.complete(start, size, target.getRandomKey(surroundings.number));
}

/*
 * Decisions.
 */

bool FlowMove::isPossible(int64_t entry, double energy) {
    // A way back of density zero is honest; it rejects.

    const ProposalBatch& batch = prefetch.batch;
    bool reverse = isDraw(entry) || batch.logReverse[entry] < numeric_limits<double>::infinity();
    bool possible = batch.isFinite[entry] && isfinite(batch.logForward[entry]) && reverse && isfinite(energy);
    counters.numNonFinite += !possible;
    return possible;
}

bool FlowMove::drawsOnlyIndependently() const {
    const vector<double>& lags = model->getMetadata().lagTimes;
    for (size_t i = 0; i < lags.size(); i++)
        if (lagWeights[i] > 0 && !model->isIndependentDraw(lags[i]))
            return false;
    return true;
}

double FlowMove::independentLogDensity(Target& target) {
    if (!logDensity.isOf(state.revision)) {
        // Away from the state's positions it is unknown after a move of a finite lag time, and then proposals
        // have been prefetched anew from where that led.

        const vector<Vec3>& current = (away ? prefetch.positions : positions.get());
        DeviceLoan loan(positions.getKernel(), target.getContext());
        model->setKeptStretches(surroundings.keptStretches);
        logDensity.set(model->independentLogDensity(loan, shifted(current)), state.revision);
    }
    if (isfinite(logDensity.value))
        return logDensity.value;
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

double FlowMove::logAcceptance(Target& target, int64_t entry, double energyChange) {
    const ProposalBatch& batch = prefetch.batch;
    double logRatio = -energyChange / target.getKT();
    double logW = batch.logVelocities[entry];
    if (isDraw(entry))
        return logRatio + independentLogDensity(target) - (batch.logForward[entry] - logW);
    return logRatio + logW - batch.logAuxiliary[entry] + batch.logReverse[entry] - batch.logForward[entry];
}

double FlowMove::metricChange(Target& target) {
    if (!surroundings.metric.matters())
        return 0;
    if (!metricTerm.isOf(positions.getRevision()))
        metricTerm.set(surroundings.metric.compute(positions.get()), positions.getRevision());
    positions.getKernel().getPositions(target.getContext(), proposedPositions);
    return surroundings.metric.compute(proposedPositions) - metricTerm.value;
}

void FlowMove::attempt(Target& target) {
    if (mustLook(target))
        look(target);
    guardRigidMotion(target);
    int64_t entry = next(target);
    endIteration(entry, tryEntry(target, entry));
    counters.numTried++;
}

bool FlowMove::tryEntry(Target& target, int64_t entry) {
    if (!isPossible(entry))
        return false;
    double newEnergy;
    bool accept;
    try {
        positions.getKernel().applyProposal(target.getContext(), entry);
        newEnergy = target.computeEnergy();
        noteEnergyOfProposal(newEnergy);

        // A comparison with NaN is false, so whatever cannot be computed is rejected.  The model may be asked
        // for the density of the state here, and it may fail or be interrupted.

        accept = isfinite(newEnergy) &&
                 prefetch.draws.logUniform[entry] <
                         logAcceptance(target, entry, newEnergy - target.getEnergy()) + metricChange(target);
    }
    catch (...) {
        positions.restore(target.getContext());
        throw;
    }
    if (!accept) {
        positions.restore(target.getContext());
        return false;
    }
    if (settle(target, newEnergy))
        leaveFor(entry);
    return true;
}

bool FlowMove::settle(Target& target, double newEnergy) {
    bool changed = positions.settle(target.getContext());
    target.accept(newEnergy);
    seen = target.getRevision();
    counters.numAccepted++;
    hasMoved = true;
    return changed;
}

void FlowMove::leaveFor(int64_t entry) {
    state.revision = ++lastRevision;
    if (isDraw(entry))
        logDensity.set(prefetch.batch.logForward[entry] - prefetch.batch.logVelocities[entry],
                       state.revision);
    else {
        state.frame = state.revision;
        counters.numDiscarded++;
        prefetch.discard();
    }
}

/*
 * For moves around this one.
 */

void FlowMove::endIteration(int64_t entry, bool accepted) {
    lastAccepted = (accepted ? entry : -1);
    lastRejected = (accepted ? -1 : counters.iteration);
    counters.iteration++;
}

void FlowMove::noteEnergyOfProposal(double energy) {
    counters.numNonFinite += !isfinite(energy);
}

void FlowMove::goTo(int64_t entry) {
    pending = entry;
    away = true;
    leaveFor(entry);
}

void FlowMove::bringToContext(Target& target) {
    // Only the last one accepted, and before the batch that holds it is replaced.

    if (pending >= 0)
        positions.getKernel().applyProposal(target.getContext(), pending);
    pending = -1;
}

void FlowMove::stay(Target& target, double newEnergy) {
    settle(target, newEnergy);
    away = false;
}

void FlowMove::comeBack(Target& target, const Place& start) {
    positions.restore(target.getContext());
    pending = -1;
    if (!away)
        return;
    away = false;

    // Proposals prefetched in another frame are not those of the state to which the chain returns.

    if (state.frame != start.state.frame)
        prefetch.discard();
    state = start.state;
    logDensity = start.logDensity;
}

void FlowMove::takeBack(Target& target, const Place& start, const vector<Vec3>& before) {
    vector<double> coordinates;
    for (const Vec3& p : before)
        coordinates.insert(coordinates.end(), {p[0], p[1], p[2]});
    writePositions(target, coordinates);
    positions.load(target.getContext());
    prefetch.discard();
    state = start.state;
    logDensity = start.logDensity;
    hasMoved = start.hasMoved;
    counters.numAccepted--;
    noteRejection(start);
}

void FlowMove::noteRejection(const Place& start) {
    lastAccepted = -1;
    lastRejected = start.iteration;
}

/*
 * Velocities.
 */

void FlowMove::drawVelocities(Target& target, int64_t iteration, int block, vector<float>& velocities) {
    velocities.resize(3 * positions.get().size());
    IterationNoise(target.getRandomKey(surroundings.number), iteration, block)
            .normal(velocities.data(), velocities.size());
}

void FlowMove::fetchVelocities(Target& target) {
    if (lastAccepted >= 0) {
        const int64_t iteration = prefetch.getStart() + lastAccepted;
        DeviceLoan loan(positions.getKernel(), target.getContext());
        model->getVelocities(loan, prefetch.batch, lastAccepted, lastVelocities);
        if (surroundings.movedAtoms.size() < positions.get().size()) {
            // Those of context atoms, which constraints may tie to moved ones, are no part of the proposal.

            drawVelocities(target, iteration, NoiseLayout::FIRST_NORMAL_BLOCK, contextVelocities);
            for (int atom : surroundings.movedAtoms)
                copy_n(&lastVelocities[3 * atom], 3, &contextVelocities[3 * atom]);
            lastVelocities.swap(contextVelocities);
        }
    }
    if (lastRejected >= 0)
        drawVelocities(target, lastRejected, NoiseLayout::FIRST_NORMAL_BLOCK, lastVelocities);
    lastAccepted = lastRejected = -1;
}

/**
 * Dynamics begin with a kick of a whole time step, so that their velocities are behind the positions by half
 * of one.  Stiff bonds would heat up, and at long time steps without end, if velocities drawn for the time of
 * the positions were taken for such.
 */
void FlowMove::goBackHalfTimeStep(Target& target, vector<float>& velocities) {
    const vector<Vec3>& forces = target.getForces();
    const System& system = target.getContext().getSystem();
    for (size_t i = 0; i < surroundings.particles.size(); i++) {
        const int particle = surroundings.particles[i];
        const double mass = system.getParticleMass(particle);
        if (mass == 0)
            continue;
        const Vec3 kick = forces[particle] * (0.5 * target.getTimeStep() / sqrt(mass * target.getKT()));
        for (int j = 0; j < 3; j++)
            velocities[3 * i + j] -= kick[j];
    }
}

void FlowMove::writeVelocities(Target& target, bool always) {
    if (always)
        fetchVelocities(target);
    else if (hasMoved) {
        // Auxiliary velocities are a draw from N(0, I) whatever the decision was.  Those of accepted
        // proposals alone are not, and where a rejection keeps the Context's velocities these would be mixed
        // with them.

        drawVelocities(target, counters.iteration - 1, NoiseLayout::FIRST_REDRAWN_BLOCK, lastVelocities);
        goBackHalfTimeStep(target, lastVelocities);
    }
    if ((always || hasMoved) && !lastVelocities.empty())
        surroundings.velocities.write(target.getContext(), positions.getKernel(), lastVelocities,
                                      target.getKT());
    lastAccepted = lastRejected = -1;
    lastVelocities.clear();
    hasMoved = false;
}

/*
 * Checkpoints.
 */

static void checkIdentity(const Record& record, const ProposalModel& model, const string& particles) {
    string modelSha256, particlesSha256;
    record.get("modelSha256", modelSha256);
    record.get("particlesSha256", particlesSha256);
    if (modelSha256 != model.getSha256())
        throw OpenMMException("Timewarp: the checkpoint was made with another model (SHA-256 " + modelSha256 +
                              ") than " + model.getMetadata().origin + " (" + model.getSha256() +
                              "); create the integrator with the model of the checkpoint");
    if (particlesSha256 != particles)
        throw OpenMMException(
                "Timewarp: the checkpoint is of a chain that moves other particles; create the integrator "
                "with the same topology=, or call setParticles() with the same particles, as there");
}

FlowMove::Saved FlowMove::getSaved(ContextImpl& context) const {
    Saved saved;
    saved.counters = counters;
    saved.origin = origin;
    saved.originIsKnown = originIsKnown;
    saved.lagWeights = lagWeights;
    saved.positionsDigest = digestOfPositions(positions.get());
    if (!positions.areTheContexts(context))
        return saved;
    saved.logDensityIsKnown = logDensity.isOf(state.revision);
    if (saved.logDensityIsKnown)
        saved.logDensity = logDensity.value;
    saved.prefetchStart = prefetch.getStart();
    saved.prefetchSize = prefetch.getSize();
    if (saved.prefetchSize > 0)
        saved.prefetchPositions = prefetch.positions;
    saved.positionsMoved = (saved.prefetchSize > 0 && prefetch.madeFrom.revision != state.revision);
    return saved;
}

string FlowMove::particlesSha256() const {
    return sha256(surroundings.particles.data(), surroundings.particles.size() * sizeof(int));
}

Record FlowMove::save(ContextImpl& context) const {
    Record record("FlowMove");
    record.set("modelSha256", model->getSha256());
    record.set("particlesSha256", particlesSha256());
    Saved saved = getSaved(context);
    visitFields(saved, [&](const char* name, const auto& value) { record.set(name, value); });
    return record;
}

static FlowMove::Saved savedIn(const Record& record) {
    FlowMove::Saved saved;
    FlowMove::visitFields(saved, [&](const char* name, auto& value) { record.get(name, value); });
    return saved;
}

const Record& FlowMove::flowRecord(const Record& record) {
    return record.kind == "FlowMove" || record.parts.empty() ? record : flowRecord(record.parts[0]);
}

void FlowMove::check(const Record& full) const {
    const Record& record = flowRecord(full);
    checkIdentity(record, *model, particlesSha256());
    const Saved saved = savedIn(record);
    const MoveCounters& c = saved.counters;
    auto within = [](int64_t count, int64_t all) { return count >= 0 && count <= all; };
    bool counts = within(c.numAccepted, c.numTried) && within(c.numTried, c.iteration) &&
                  within(c.numNonFinite, c.iteration) && within(c.numSurrogateAccepted, c.iteration) &&
                  within(c.numScreened, c.iteration) && c.numDiscarded >= 0;
    size_t numPositions = (saved.prefetchSize > 0 ? surroundings.particles.size() : 0);
    bool prefetched = saved.prefetchSize >= 0 && saved.prefetchSize <= MAX_PREFETCHED &&
                      saved.prefetchStart >= 0 && saved.prefetchStart <= c.iteration &&
                      saved.prefetchPositions.size() == numPositions;
    auto isWeight = [](double weight) { return isfinite(weight) && weight >= 0; };
    const vector<double>& weights = saved.lagWeights;
    bool weighted = weights.size() == lagWeights.size() && all_of(weights.begin(), weights.end(), isWeight) &&
                    any_of(weights.begin(), weights.end(), [](double weight) { return weight > 0; });
    bool placed = isfinite(saved.origin[0]) && isfinite(saved.origin[1]) && isfinite(saved.origin[2]);
    if (!counts || !prefetched || !weighted || !placed)
        refuseRecord();
}

void FlowMove::resume(ContextImpl& context, const Record& record) {
    const Saved saved = savedIn(flowRecord(record));
    setLagWeights(saved.lagWeights);
    counters = saved.counters;
    origin = saved.origin;
    originIsKnown = saved.originIsKnown;
    positions.load(context);
    seen = -1;
    state.revision = state.frame = ++lastRevision;
    logDensity.forget();
    prefetch.discard();
    prefetch.recall(0, 0);
    resumed = (digestOfPositions(positions.get()) == saved.positionsDigest);
    if (!resumed)
        return;
    if (saved.logDensityIsKnown)
        logDensity.set(saved.logDensity, state.revision);
    prefetch.recall(saved.prefetchStart, saved.prefetchSize);
    prefetch.positions = saved.prefetchPositions;
    prefetch.madeFrom = {saved.positionsMoved ? -1 : state.revision, state.frame};
}
