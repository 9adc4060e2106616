#include "Chain.h"
#include "openmm/OpenMMException.h"
#include <algorithm>
#include <chrono>
#include <cmath>
#include <iomanip>
#include <limits>
#include <sstream>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

static const chrono::milliseconds INTERRUPTION_CHECK_INTERVAL(100);

Chain::Chain(uint16_t number, const string& systemSha256) : number(number), systemSha256(systemSha256) {
    useRandomNumbers();
}

void Chain::addMove(unique_ptr<Move> move, double weight) {
    moves.push_back(std::move(move));
    schedule.add(weight);
}

void Chain::useRandomNumbers() {
    target.setRandomNumbers(seed, replica, number);
}

void Chain::setSeed(int64_t newSeed, bool isSet) {
    seedIsSet = isSet;
    if (newSeed == seed)
        return;
    seed = newSeed;
    useRandomNumbers();
    for (auto& move : moves)
        move->discardPrefetched();
}

void Chain::run(ContextImpl& context, const ChainSettings& settings, int steps) {
    using Clock = chrono::steady_clock;
    Clock::time_point nextCheck = Clock::now() + INTERRUPTION_CHECK_INTERVAL;
    target.forgetForces();
    target.setTimeStep(settings.dynamics.steps > 0 ? settings.dynamics.stepSize : 0.0);
    try {
        for (int i = 0; i < steps; i++) {
            step(context, settings, i == 0);
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

void Chain::step(ContextImpl& context, const ChainSettings& settings, bool isFirst) {
    // Positions, box and parameters may have changed unseen since the last call, so the first step always
    // looks at them again.

    if (settings.dynamics.steps > 0) {
        runDynamics(context, settings);
        if (!moves.empty() && settings.proposalsPerStep > 0)
            refresh(context, settings, false);
    }
    else {
        bool changed = context.updateContextState();
        if (isFirst || changed)
            refresh(context, settings, changed);
    }
    if (!moves.empty())
        tryMoves(settings);
    if (settings.dynamics.steps == 0)
        context.setTime(context.getTime() + settings.stepSize);
    context.setStepCount(context.getStepCount() + 1);
}

void Chain::runDynamics(ContextImpl& context, const ChainSettings& settings) {
    target.use(context, settings.temperature, settings.forceGroups);
    for (auto& move : moves)
        move->writeVelocities(target, false);
    dynamics->run(target, settings.dynamics);
}

int Chain::picked(int64_t numberOfTry) const {
    return schedule.pick(target.getRandomKey(Schedule::MOVE), numberOfTry);
}

void Chain::planTries(const ChainSettings& settings) {
    // Dynamics leave nothing of what was computed ahead, so that no more is computed than will be tried.

    numLeft.assign(moves.size(), settings.dynamics.steps > 0 ? 0 : numeric_limits<int>::max());
    const int64_t numPicked = static_cast<int64_t>(settings.proposalsPerStep) * settings.blocksPerTry;
    for (int64_t i = 0; i < numPicked && settings.dynamics.steps > 0; i++)
        numLeft[picked(trial + i)]++;
}

void Chain::tryMoves(const ChainSettings& settings) {
    planTries(settings);
    for (int i = 0; i < settings.proposalsPerStep; i++)
        if (settings.blocksPerTry > 1)
            tryGroup(settings);
        else
            tryOne(settings);
}

void Chain::tryOne(const ChainSettings& settings) {
    int move = picked(trial);
    target.setLookAhead(numLeft[move]);
    moves[move]->attempt(target);
    trial++;
    numLeft[move] -= (settings.dynamics.steps > 0);
}

void Chain::tryGroup(const ChainSettings& settings) {
    // A look may correct the state, from which all of them begin.  Each is picked for itself, so that any
    // order and its opposite are equally likely.

    vector<int> chosen;
    for (int i = 0; i < settings.blocksPerTry; i++)
        chosen.push_back(picked(trial + i));
    for (int move : chosen) {
        moves[move]->lookForGroup(target);
        if (!moves[move]->canBeInGroup(target))
            throw OpenMMException(
                    "Timewarp: tries of block " + to_string(move) +
                    " cannot be decided on together with others, because it has no screening, or without "
                    "dynamics because it is a whole molecule; call setBlocksPerTry(1)");
    }
    group.begin(target);
    try {
        for (int move : chosen) {
            target.setLookAhead(numLeft[move]);
            moves[move]->attemptIn(group, target);
            numLeft[move] -= (settings.dynamics.steps > 0);
        }
    }
    catch (...) {
        group.giveUp(target);
        throw;
    }
    trial += settings.blocksPerTry;
    group.decide(target);
}

void Chain::refresh(ContextImpl& context, const ChainSettings& settings, bool changedByForces) {
    target.use(context, settings.temperature, settings.forceGroups);
    target.noteChange(changedByForces, stateIsLoaded);

    // Of positions that are not valid, the move that comes next can say more than the energy.

    moves[picked(trial)]->look(target);
    target.lookAtEnergy();
    stateIsLoaded = false;
}

void Chain::finishRun(ContextImpl& context, const ChainSettings& settings) {
    // Other integrators of a CompoundIntegrator keep forces that hold no more: because of new positions, or,
    // on a GPU, because energies were computed in the same place.  They must hear of it whatever goes wrong.

    try {
        target.use(context, settings.temperature, settings.forceGroups);
        for (auto& move : moves)
            move->writeVelocities(target, settings.dynamics.steps == 0);
    }
    catch (...) {
        context.systemChanged();
        throw;
    }
    context.systemChanged();
}

/*
 * Checkpoints.
 */

template <class Place, class Function> static void visitPlace(Place&& place, Function visit) {
    visit("seed", place.seed);
    visit("seedIsSet", place.seedIsSet);
    visit("replica", place.replica);
    visit("trial", place.trial);
}

Record Chain::save(ContextImpl& context) const {
    Record record("Chain");
    record.set("systemSha256", systemSha256);
    record.set("weights", schedule.getWeights());
    visitPlace(RandomPlace{seed, seedIsSet, replica, trial},
               [&](const char* name, int64_t value) { record.set(name, value); });
    for (auto& move : moves)
        record.parts.push_back(move->save(context));
    return record;
}

static string listed(const vector<double>& numbers) {
    stringstream text;
    text << setprecision(10);
    for (size_t i = 0; i < numbers.size(); i++)
        text << (i > 0 ? ", " : "") << numbers[i];
    return text.str();
}

void Chain::checkWeights(const Record& record) const {
    vector<double> weights;
    record.get("weights", weights);
    auto isWeight = [](double weight) { return isfinite(weight) && weight >= 0; };
    if (weights.size() != moves.size() || !all_of(weights.begin(), weights.end(), isWeight))
        refuseRecord();
    if (weights != schedule.getWeights())
        throw OpenMMException("Timewarp: the checkpoint is of blocks with the weights " + listed(weights) +
                              ", and those of this chain are " + listed(schedule.getWeights()) +
                              "; add the blocks with the same weights as there");
}

Chain::RandomPlace Chain::check(const Record& record) const {
    RandomPlace place;
    visitPlace(place, [&](const char* name, int64_t& value) { record.get(name, value); });
    if (place.replica < 0 || place.trial < 0)
        refuseRecord();
    if (record.parts.size() != moves.size())
        throw OpenMMException("Timewarp: the checkpoint is of a chain of " + to_string(record.parts.size()) +
                              " moves, and this one has " + to_string(moves.size()) +
                              "; add the same blocks as there");
    for (size_t i = 0; i < moves.size(); i++)
        moves[i]->check(record.parts[i]);
    checkWeights(record);
    return place;
}

void Chain::resume(ContextImpl& context, const Record& record, const RandomPlace& place) {
    string system;
    RandomPlace saved = check(record);
    record.get("systemSha256", system);
    seed = place.seed;
    seedIsSet = place.seedIsSet;
    replica = place.replica;
    trial = place.trial;
    useRandomNumbers();
    bool isAnother = (system != systemSha256 || place.seed != saved.seed || place.replica != saved.replica);
    for (size_t i = 0; i < moves.size(); i++) {
        moves[i]->resume(context, record.parts[i]);
        if (isAnother)
            moves[i]->discardPrefetched();
    }
    stateIsLoaded = true;
}
