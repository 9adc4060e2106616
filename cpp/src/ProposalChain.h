#ifndef TIMEWARP_PROPOSAL_CHAIN_H_
#define TIMEWARP_PROPOSAL_CHAIN_H_

#include "ProposalModel.h"
#include "internal/windowsExportTimewarp.h"
#include "openmm/Kernel.h"
#include "openmm/Vec3.h"
#include "openmm/internal/ContextImpl.h"
#include <cstdint>
#include <iosfwd>
#include <vector>

namespace TimewarpPlugin {

/**
 * The settings of the integrator that the chain reads at every step.
 */
struct ChainSettings {
    double temperature;
    /** Number of proposals computed together, 0 to adapt. */
    int batchSize;
    int forceGroups;
    /** Time that one iteration adds to the Context's clock (ps). */
    double stepSize;
    /** Asked now and then whether to stop before all iterations are done; may be NULL. */
    bool (*interrupted)();
};

/**
 * The numbers that determine how a chain goes on, apart from the state of the Context.  They are what a
 * checkpoint holds.
 */
struct ChainCounters {
    std::int64_t seed = 0;
    std::int64_t iteration = 0;
    std::int64_t numAccepted = 0;
    std::int64_t numNonFinite = 0;
    /** Times that an acceptance made the look-ahead worthless; the batch size adapts to their frequency. */
    std::int64_t numDiscarded = 0;
    /** First iteration and size of the look-ahead; size 0 if there is none. */
    std::int64_t lookAheadStart = 0;
    std::int64_t lookAheadSize = 0;
    /** 1 if the positions have changed since the look-ahead was made, so that only its independent draws
     * hold. */
    std::int64_t positionsMoved = 0;
    /** 1 if stateLogDensity is that of the current positions. */
    std::int64_t stateLogDensityKnown = 0;
    double stateLogDensity = 0;
    /** 1 if the origin has been chosen. */
    std::int64_t originKnown = 0;
    /** Where the model's origin lies (nm); see ProposalChain. */
    double origin[3] = {0, 0, 0};
};

/**
 * The Metropolis-Hastings chain, the same on all platforms.  Its target is
 * exp(-U(x)/kT) N(v; 0, I), and v is drawn anew before every single proposal.
 *
 * Proposals are computed in batches.  A batch is look-ahead: entry k is the proposal of iteration start+k, to
 * be used if the state it was made from is still the current one.  The first acceptance throws the rest away,
 * except for independent draws (infinite lag time), which do not depend on the state.
 *
 * The model works in single precision, which is finest near the origin, so it is shown positions relative to
 * the centroid of the first state.  That origin never changes again: one that followed the state would be
 * another in the reverse move, and a flow that is not translation invariant would have the wrong density
 * there.
 */
class EXPORT_TIMEWARP ProposalChain {
public:
    /**
     * @param model     the source of proposals
     * @param kernel    a TimewarpStateKernel, initialized
     * @param seed      the seed of all randomness
     */
    ProposalChain(ProposalModel& model, OpenMM::Kernel kernel, std::int64_t seed);
    virtual ~ProposalChain() = default;
    /**
     * Perform iterations, or fewer if settings.interrupted returns true.  If an exception leaves this method,
     * the positions are those of the last finished iteration.
     */
    void run(OpenMM::ContextImpl& context, const ChainSettings& settings, int iterations);
    /**
     * Get the counters that a checkpoint must hold.
     */
    ChainCounters getCounters(OpenMM::ContextImpl& context) const;
    /**
     * Go on from counters that getCounters() returned, the Context being in the state it had then.
     */
    void setCounters(OpenMM::ContextImpl& context, const ChainCounters& counters);
    /**
     * Get the counters as they are, whether or not the look-ahead still holds.
     */
    const ChainCounters& getCounters() const {
        return counters;
    }
    /**
     * Go on with other random numbers.
     */
    void setSeed(std::int64_t seed);
    double computeKineticEnergy(OpenMM::ContextImpl& context);

protected:
    /** The randomness of the iterations of a batch, one row each. */
    struct Draws {
        std::vector<double> logUniform;
        std::vector<double> lags;
        /** Auxiliary velocities v, and the noise of which the model makes a proposal. */
        std::vector<float> velocities, noise;
    };
    /**
     * Draw the randomness of iterations start ... start+size-1.  Virtual, as the next one is, so that tests
     * can plant faults and look on.
     */
    virtual void draw(std::int64_t start, std::int64_t size, Draws& draws) const;
    /**
     * Compute the logarithm of the acceptance ratio of a proposal.
     */
    virtual double logAcceptance(std::int64_t entry, double newEnergy, double kT);

private:
    void chooseOrigin();
    void chooseStream(OpenMM::ContextImpl& context, const ChainSettings& settings);
    void iterate(OpenMM::ContextImpl& context, const ChainSettings& settings);
    void refreshState(OpenMM::ContextImpl& context, const ChainSettings& settings);
    bool entryIsUsable(std::int64_t entry) const;
    void makeLookAhead(std::int64_t start, std::int64_t size);
    int chooseBatchSize(const ChainSettings& settings) const;
    double independentLogDensity();
    bool proposalIsFinite(std::int64_t entry) const;
    std::vector<OpenMM::Vec3> modelPositions() const;
    OpenMM::Vec3 origin() const;
    bool tryProposal(OpenMM::ContextImpl& context, const ChainSettings& settings, std::int64_t entry);
    void acceptProposal(OpenMM::ContextImpl& context, std::int64_t entry, double newEnergy);
    double computeEnergy(OpenMM::ContextImpl& context, const ChainSettings& settings) const;
    void finishRun(OpenMM::ContextImpl& context, const ChainSettings& settings);

    ProposalModel& model;
    mutable OpenMM::Kernel kernel;
    int numAtoms;
    ChainCounters counters;
    bool lookAheadIsComputed = false;
    /** The random numbers of the current thermodynamic state, and whether they are those of the look-ahead.
     */
    std::uint64_t stream = 0;
    bool streamIsKnown = false;
    ProposalBatch batch;
    Draws draws;
    /** The current positions, and those proposed, in the Context's frame. */
    std::vector<OpenMM::Vec3> statePositions, proposedPositions;
    double stateEnergy = 0;
    bool moved = false;
    std::vector<float> lastVelocities;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_PROPOSAL_CHAIN_H_*/
