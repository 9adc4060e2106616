#ifndef TIMEWARP_MOVE_H_
#define TIMEWARP_MOVE_H_

#include "Archive.h"
#include "KeptMotions.h"
#include "Target.h"
#include "internal/windowsExportTimewarp.h"
#include "openmm/OpenMMException.h"
#include <cstdint>
#include <vector>

namespace TimewarpPlugin {

/**
 * What a move has done so far.  An iteration is one proposal, with random numbers of its own; a try is what
 * ends with a decision: one iteration, or a subchain of them where another energy decides first.
 */
struct MoveCounters {
    std::int64_t iteration = 0;
    std::int64_t numTried = 0;
    /** Tries that have moved the state. */
    std::int64_t numAccepted = 0;
    /** Iterations that the first of two energies has accepted. */
    std::int64_t numSurrogateAccepted = 0;
    /** Iterations that it has rejected. */
    std::int64_t numScreened = 0;
    /** Iterations in which something was not finite. */
    std::int64_t numNonFinite = 0;
    /** Times that proposals which had been prefetched were found worthless; the batch size adapts to their
     * frequency. */
    std::int64_t numDiscarded = 0;
};

/**
 * Call a function with the name and the value of each counter.
 */
template <class Counters, class Function> void visitCounters(Counters&& counters, Function visit) {
    visit("iteration", counters.iteration);
    visit("numTried", counters.numTried);
    visit("numAccepted", counters.numAccepted);
    visit("numSurrogateAccepted", counters.numSurrogateAccepted);
    visit("numScreened", counters.numScreened);
    visit("numNonFinite", counters.numNonFinite);
    visit("numDiscarded", counters.numDiscarded);
}

class BlockGroup;

/**
 * A way to change the state that leaves the Target's distribution as it is, with Metropolis-Hastings tests of
 * its own.  A chain composes them.  Each has random numbers of its own, by its place in the chain.
 *
 * Adding a kind of move takes a subclass in a header and a source file of its own, and a test header; nothing
 * of the chain or of the other moves need be changed.
 */
class EXPORT_TIMEWARP Move {
public:
    virtual ~Move() = default;
    /**
     * Get the particles that it may move.
     */
    virtual const std::vector<int>& getMoved() const = 0;
    /**
     * Look at the state.  Called when it has another number than after the move's last try, and before
     * the energy is known.
     */
    virtual void look(Target& target) = 0;
    /**
     * Try to move the state once.  If an exception leaves this method, the positions are those before.
     */
    virtual void attempt(Target& target) = 0;
    /**
     * Get whether it can be one of a group of tries that are decided together.
     */
    virtual bool canBeInGroup(const Target& target) const {
        return false;
    }
    /**
     * Look at the state that a group begins at, whose energy is known; in the group it is not.
     */
    virtual void lookForGroup(Target& target) {
        look(target);
    }
    /**
     * Try to move the state as one of a group, by an energy of its own: the group decides later.  If an
     * exception leaves this method, the group has what to take back.
     */
    virtual void attemptIn(BlockGroup& group, Target& target) {
        throw OpenMM::OpenMMException("Timewarp: a move that is none for groups was tried in one");
    }
    /**
     * Forget proposals that have been computed ahead.
     */
    virtual void discardPrefetched() {
    }
    /**
     * Draw velocities anew for the particles that it has moved, and write them to the Context.
     *
     * @param always   also if the last try was rejected
     */
    virtual void writeVelocities(Target& target, bool always) {
    }
    virtual const MoveCounters& getCounters() const = 0;
    /**
     * Get what a checkpoint must hold.
     */
    virtual Record save(OpenMM::ContextImpl& context) const = 0;
    /**
     * Throw an exception if a record cannot be one of this move.
     */
    virtual void check(const Record& record) const = 0;
    /**
     * Go on from a record that has passed the check, the Context being in the state it had then.  If
     * positions are others, the move goes on from them.
     */
    virtual void resume(OpenMM::ContextImpl& context, const Record& record) = 0;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_MOVE_H_*/
