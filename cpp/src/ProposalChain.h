#ifndef TIMEWARP_PROPOSAL_CHAIN_H_
#define TIMEWARP_PROPOSAL_CHAIN_H_

#include "ChainState.h"
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
 * The Metropolis-Hastings chain, the same on all platforms.  Its target is
 * exp(-U(x)/kT) N(v; 0, I), and v is drawn anew before every single proposal.
 *
 * Proposals are computed in batches.  A batch is look-ahead: entry k is the proposal of iteration start+k, to
 * be used if the state it was made from is still the current one.  The first acceptance throws the rest away.
 * Only where it accepts an independent draw (infinite lag time) do the other independent draws hold, which do
 * not depend on the state: a flow of shapes places all of them in one and the same frame.
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
     * @param shifts    in a periodic System, a displacement of each atom (nm) by which only images of a state
     *                  come of it: atoms of one molecule have the same; otherwise none
     */
    ProposalChain(ProposalModel& model, OpenMM::Kernel kernel, std::int64_t seed,
                  const std::vector<OpenMM::Vec3>& shifts = {});
    virtual ~ProposalChain() = default;
    /**
     * Perform iterations, or fewer if settings.interrupted returns true.  If an exception leaves this method,
     * the positions are those of the last finished iteration.
     */
    void run(OpenMM::ContextImpl& context, const ChainSettings& settings, int iterations);
    /**
     * Set how often each of the model's lag times is picked.  Look-ahead with lag times that were picked
     * otherwise is thrown away, so that the chain does not depend on how far it reached.
     */
    void setLagWeights(const std::vector<double>& weights);
    /**
     * Get what a checkpoint must hold.
     */
    ChainState getState(OpenMM::ContextImpl& context) const;
    /**
     * Go on from what getState() returned, the Context being in the state it had then.  If the positions
     * are others, the chain goes on from them.
     */
    void setState(OpenMM::ContextImpl& context, const ChainState& state);
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
    void chooseOrigin(const std::vector<OpenMM::Vec3>& positions);
    void chooseStream(OpenMM::ContextImpl& context, const ChainSettings& settings);
    void iterate(OpenMM::ContextImpl& context, const ChainSettings& settings);
    void refreshState(OpenMM::ContextImpl& context, const ChainSettings& settings);
    bool entryIsUsable(std::int64_t entry) const;
    void makeLookAhead(OpenMM::ContextImpl& context, std::int64_t start, std::int64_t size);
    void discardLookAhead();
    bool drawsOnlyIndependently() const;
    int chooseBatchSize(const ChainSettings& settings) const;
    double independentLogDensity();
    bool proposalIsFinite(std::int64_t entry) const;
    const std::vector<OpenMM::Vec3>& shifted(const std::vector<OpenMM::Vec3>& positions);
    OpenMM::Vec3 origin() const;
    bool tryProposal(OpenMM::ContextImpl& context, const ChainSettings& settings, std::int64_t entry);
    void acceptProposal(OpenMM::ContextImpl& context, std::int64_t entry, double newEnergy);
    double computeEnergy(OpenMM::ContextImpl& context, const ChainSettings& settings) const;
    void restorePositions(OpenMM::ContextImpl& context);
    void finishRun(OpenMM::ContextImpl& context, const ChainSettings& settings);

    ProposalModel& model;
    mutable OpenMM::Kernel kernel;
    std::vector<OpenMM::Vec3> shifts;
    int numAtoms;
    ChainCounters counters;
    std::vector<double> lagWeights;
    std::vector<OpenMM::Vec3> lookAheadPositions;
    bool lookAheadIsComputed = false;
    /** The random numbers of the current thermodynamic state, and whether they are those of the look-ahead.
     */
    std::uint64_t stream = 0;
    bool streamIsKnown = false;
    ProposalBatch batch;
    Draws draws;
    /** The current positions in the Context's frame, and those before them. */
    std::vector<OpenMM::Vec3> statePositions, previousPositions;
    /** What shifted() returns; kept, as all arrays here, so that a step need not allocate any. */
    std::vector<OpenMM::Vec3> shiftedPositions;
    double stateEnergy = 0;
    std::vector<float> lastVelocities;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_PROPOSAL_CHAIN_H_*/
