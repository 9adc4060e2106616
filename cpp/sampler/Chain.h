#ifndef TIMEWARP_CHAIN_H_
#define TIMEWARP_CHAIN_H_

#include "Archive.h"
#include "BlockGroup.h"
#include "LocalDynamics.h"
#include "Move.h"
#include "Schedule.h"
#include "Target.h"
#include "internal/windowsExportTimewarp.h"
#include "openmm/internal/ContextImpl.h"
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace TimewarpPlugin {

/**
 * The settings of the integrator that the chain reads at every step.
 */
struct ChainSettings {
    double temperature;
    int forceGroups;
    /** Time that one step adds to the Context's clock, where dynamics do not (ps). */
    double stepSize;
    /** Asked now and then whether to stop before all steps are done; may be NULL. */
    bool (*interrupted)();
    /** Number of moves tried in one step. */
    int proposalsPerStep = 1;
    DynamicsSettings dynamics;
    /** Number of blocks in each of these tries. */
    int blocksPerTry = 1;
};

/**
 * Runs the schedule: in each step dynamics, where there are any, and then moves, picked by their weights.  It
 * is the same on all platforms.
 */
class EXPORT_TIMEWARP Chain {
public:
    /**
     * @param number         its place among the chains of the Context, which gives it random numbers of its
     * own
     * @param systemSha256   a digest of the System; in another one a saved chain goes on without what was
     *                       computed ahead
     */
    Chain(std::uint16_t number, const std::string& systemSha256);
    /**
     * Add a move.
     *
     * @param weight   how often it is picked, in proportion to those of the others
     */
    void addMove(std::unique_ptr<Move> move, double weight = 1.0);
    /**
     * Set what does the dynamics, where settings ask for them.
     */
    void setDynamics(std::unique_ptr<LocalDynamics> newDynamics) {
        dynamics = std::move(newDynamics);
    }
    LocalDynamics& getDynamics() const {
        return *dynamics;
    }
    /**
     * Perform steps, or fewer if settings.interrupted returns true.  If an exception leaves this method, the
     * positions are those of the last finished move.
     */
    void run(OpenMM::ContextImpl& context, const ChainSettings& settings, int steps);
    /**
     * Go on with other random numbers.
     *
     * @param isSet   whether somebody has set the seed, or else it was picked
     */
    void setSeed(std::int64_t seed, bool isSet);
    /**
     * Get the seed.
     */
    std::int64_t getSeed() const {
        return seed;
    }
    bool getSeedIsSet() const {
        return seedIsSet;
    }
    /**
     * What a checkpoint holds of where the chain's random numbers have got to.
     */
    struct RandomPlace {
        std::int64_t seed = 0, seedIsSet = 0;
        /** Which of several runs this is that began with one State in one Context; see ReplicaNumbers. */
        std::int64_t replica = 0;
        /** The number of the next try. */
        std::int64_t trial = 0;
    };
    /**
     * Get what a checkpoint must hold.
     */
    Record save(OpenMM::ContextImpl& context) const;
    /**
     * Get the place in random numbers that a record holds.  Throws an exception if the record cannot be one
     * of this chain.
     */
    RandomPlace check(const Record& record) const;
    /**
     * Go on from what save() returned, the Context being in the state it had then.  If positions are others,
     * the chain goes on from them.
     *
     * @param place   to go on with these random numbers
     */
    void resume(OpenMM::ContextImpl& context, const Record& record, const RandomPlace& place);

private:
    void refresh(OpenMM::ContextImpl& context, const ChainSettings& settings, bool changedByForces);
    void step(OpenMM::ContextImpl& context, const ChainSettings& settings, bool isFirst);
    void runDynamics(OpenMM::ContextImpl& context, const ChainSettings& settings);
    int picked(std::int64_t numberOfTry) const;
    void planTries(const ChainSettings& settings);
    void tryMoves(const ChainSettings& settings);
    void tryOne(const ChainSettings& settings);
    void tryGroup(const ChainSettings& settings);
    void finishRun(OpenMM::ContextImpl& context, const ChainSettings& settings);
    void useRandomNumbers();
    void checkWeights(const Record& record) const;

    std::uint16_t number;
    std::string systemSha256;
    std::int64_t seed = 0, replica = 0, trial = 0;
    bool seedIsSet = false;
    Target target;
    Schedule schedule;
    BlockGroup group;
    std::vector<std::unique_ptr<Move>> moves;
    std::unique_ptr<LocalDynamics> dynamics;
    /** How often each move is still to be tried before dynamics go on. */
    std::vector<int> numLeft;
    /** Whether the state came with resume(), and no step has been done since. */
    bool stateIsLoaded = false;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_CHAIN_H_*/
