#ifndef TIMEWARP_CHAIN_STATE_H_
#define TIMEWARP_CHAIN_STATE_H_

#include "openmm/Vec3.h"
#include "openmm/serialization/SerializationNode.h"
#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

namespace TimewarpPlugin {

/**
 * The numbers that determine how a chain goes on, apart from the positions.  All of them are 8 bytes long,
 * and visitCounters() lists them.
 *
 * An iteration is one proposal of the flow, accepted or rejected; each has random numbers of its own.  A step
 * is what ends with a decision by the System's energy: one iteration, or a subchain of them where a surrogate
 * decides first.
 */
struct ChainCounters {
    std::int64_t seed = 0;
    /** 1 if the seed was set, 0 if the Context has picked it. */
    std::int64_t seedIsSet = 0;
    /** Which of several runs this is that began with one State in one Context; see ReplicaNumbers. */
    std::int64_t replica = 0;
    std::int64_t iteration = 0;
    std::int64_t numSteps = 0;
    /** Steps that have moved the state. */
    std::int64_t numAccepted = 0;
    /** Iterations that the surrogate has accepted. */
    std::int64_t numSurrogateAccepted = 0;
    /** Iterations in which model or surrogate returned what is not finite. */
    std::int64_t numNonFinite = 0;
    /** Times that an acceptance made the prefetched proposals worthless; the batch size adapts to their
     * frequency. */
    std::int64_t numDiscarded = 0;
    /** First iteration and size of the prefetched batch; size 0 if there is none. */
    std::int64_t prefetchStart = 0;
    std::int64_t prefetchSize = 0;
    /** 1 if an independent draw has been accepted since the batch was prefetched, so that only its other
     * independent draws hold. */
    std::int64_t positionsMoved = 0;
    /** 1 if stateLogDensity is that of the current positions. */
    std::int64_t stateLogDensityKnown = 0;
    double stateLogDensity = 0;
    /** 1 if stateSurrogate is the surrogate's energy of the current positions (kJ/mol). */
    std::int64_t stateSurrogateKnown = 0;
    double stateSurrogate = 0;
    /** 1 if the origin has been chosen. */
    std::int64_t originKnown = 0;
    /** Where the model's origin lies (nm); see ProposalChain. */
    double origin[3] = {0, 0, 0};
};

/**
 * Call a function with the name and the value of each counter.
 *
 * @param counters   ChainCounters, constant or not
 */
template <class Counters, class Function> void visitCounters(Counters&& counters, Function visit) {
    visit("seed", counters.seed);
    visit("seedIsSet", counters.seedIsSet);
    visit("replica", counters.replica);
    visit("iteration", counters.iteration);
    visit("numSteps", counters.numSteps);
    visit("numAccepted", counters.numAccepted);
    visit("numSurrogateAccepted", counters.numSurrogateAccepted);
    visit("numNonFinite", counters.numNonFinite);
    visit("numDiscarded", counters.numDiscarded);
    visit("prefetchStart", counters.prefetchStart);
    visit("prefetchSize", counters.prefetchSize);
    visit("positionsMoved", counters.positionsMoved);
    visit("stateLogDensityKnown", counters.stateLogDensityKnown);
    visit("stateLogDensity", counters.stateLogDensity);
    visit("stateSurrogateKnown", counters.stateSurrogateKnown);
    visit("stateSurrogate", counters.stateSurrogate);
    visit("originKnown", counters.originKnown);
    visit("originX", counters.origin[0]);
    visit("originY", counters.origin[1]);
    visit("originZ", counters.origin[2]);
}

/**
 * What a checkpoint holds of a chain: all that determines how it goes on, apart from the state of the
 * Context.
 */
struct ChainState {
    ChainCounters counters;
    /** How often each of the model's lag times is picked. */
    std::vector<double> lagWeights;
    /** Positions (nm) that proposals were prefetched from; empty if there is none. */
    std::vector<OpenMM::Vec3> prefetchPositions;
    /** Tells whether the Context has the positions that this state belongs to. */
    std::string positionsDigest;
    /** Tells whether stateSurrogate is of the surrogate that there is. */
    std::string surrogateDigest;

    void discardPrefetched() {
        counters.prefetchSize = 0;
        prefetchPositions.clear();
    }
};

/**
 * What a saved chain belongs to.
 */
struct ChainIdentity {
    std::string modelName;
    /** Model and particles must be the same for it to be loaded. */
    std::string modelSha256, particlesSha256;
    /** In another System it goes on without the proposals that were made ahead in the old one. */
    std::string systemSha256;
    std::size_t numAtoms, numLags;
};

/**
 * Compute a digest of positions; it is the same only if they are bitwise equal.
 */
std::string digestOfPositions(const std::vector<OpenMM::Vec3>& positions);
/**
 * Write a chain into a checkpoint.
 */
void writeCheckpoint(std::ostream& stream, const ChainState& state, const ChainIdentity& identity);
/**
 * Read a chain from a checkpoint.  Throws an OpenMMException that says why, if it is truncated or damaged, or
 * belongs to another model or moves other particles.
 */
ChainState readCheckpoint(std::istream& stream, const ChainIdentity& identity);
/**
 * Write a chain into a node of a State.
 */
void writeNode(OpenMM::SerializationNode& node, const ChainState& state, const ChainIdentity& identity);
/**
 * Read a chain from a node of a State, with the checks of readCheckpoint().
 */
ChainState readNode(const OpenMM::SerializationNode& node, const ChainIdentity& identity);

} // namespace TimewarpPlugin

#endif /*TIMEWARP_CHAIN_STATE_H_*/
