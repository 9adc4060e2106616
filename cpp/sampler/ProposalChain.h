#ifndef TIMEWARP_PROPOSAL_CHAIN_H_
#define TIMEWARP_PROPOSAL_CHAIN_H_

#include "CenterOfMass.h"
#include "ChainState.h"
#include "KeptMotions.h"
#include "PeriodicImages.h"
#include "ProposalModel.h"
#include "RandomKey.h"
#include "RigidMotion.h"
#include "SurrogateEnergy.h"
#include "internal/windowsExportTimewarp.h"
#include "openmm/Kernel.h"
#include "openmm/Vec3.h"
#include "openmm/internal/ContextImpl.h"
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <string>
#include <vector>

namespace TimewarpPlugin {

class DeviceLoan;

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
    /** Number of proposals of one iteration, where a surrogate tests them first. */
    int subchainLength = 1;
};

/**
 * Where a chain stands: what it must know of its System and Context.
 */
struct ChainSurroundings {
    /** Its place among the chains of the Context, which gives it random numbers of its own. */
    std::uint16_t number = 0;
    /** The particles that it moves, in the order of the model's atoms. */
    std::vector<int> particles;
    PeriodicImages images;
    CenterOfMass centerOfMass;
    /** Which rigid motions of its particles the other integrators of the Context never make, either, given
     * the positions of all particles (nm). */
    std::function<KeptMotions(OpenMM::ContextImpl&, const std::vector<OpenMM::Vec3>&, const DeviceLoan&)>
            keptByOthers = [](OpenMM::ContextImpl&, const std::vector<OpenMM::Vec3>&, const DeviceLoan&) {
                return KeptMotions();
            };
};

/**
 * The Metropolis-Hastings chain, the same on all platforms.  Its target is
 * exp(-U(x)/kT) N(v; 0, I), and v is drawn anew before every single proposal.
 *
 * Proposals are computed in batches.  A batch is prefetched: entry k is the proposal of iteration start+k, to
 * be used if the state it was made from is still the current one.  The first acceptance throws the rest away.
 * Only where it accepts an independent draw (infinite lag time) do the other independent draws hold, which do
 * not depend on the state: a flow of shapes places all of them in one and the same frame.
 *
 * With a surrogate an iteration has two stages (delayed acceptance; Christen and Fox, J. Comput. Graph. Stat.
 * 14, 795 (2005); with more than one proposal Liu's surrogate transition method).  Proposals are first
 * accepted or rejected with the surrogate's energy; where that subchain ends is then a proposal of its own,
 * which the System's energy accepts with probability min(1, exp(-(dU - dS)/kT)), dS being the change of the
 * surrogate.
 *
 * The model works in single precision, which is finest near the origin, so it is shown positions relative to
 * the centroid of the first state.  That origin never changes again: one that followed the state would be
 * another in the reverse move, and a flow that is not translation invariant would have the wrong density
 * there.
 */
class EXPORT_TIMEWARP ProposalChain {
public:
    /**
     * @param model         the source of proposals
     * @param kernel        a TimewarpStateKernel, initialized
     * @param seed          the seed of all randomness
     * @param surroundings  where it stands
     */
    ProposalChain(ProposalModel& model, OpenMM::Kernel kernel, std::int64_t seed,
                  const ChainSurroundings& surroundings);
    virtual ~ProposalChain() = default;
    /**
     * Perform iterations, or fewer if settings.interrupted returns true.  If an exception leaves this method,
     * the positions are those of the last finished iteration.
     */
    void run(OpenMM::ContextImpl& context, const ChainSettings& settings, int iterations);
    /**
     * Set how often each of the model's lag times is picked.  Proposals prefetched with lag times that were
     * picked otherwise are thrown away, so that the chain does not depend on how far it reached.
     */
    void setLagWeights(const std::vector<double>& weights);
    /**
     * Set the surrogate that proposals are tested with first, or NULL for none.  Call it before anything
     * else.
     */
    void setSurrogate(SurrogateEnergy* surrogate);
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
     * Get the counters as they are, whether or not the prefetched proposals still hold.
     */
    const ChainCounters& getCounters() const {
        return counters;
    }
    /**
     * Go on with other random numbers.
     *
     * @param isSet   whether somebody has set the seed, or else it was picked
     */
    void setSeed(std::int64_t seed, bool isSet);
    double computeKineticEnergy(OpenMM::ContextImpl& context);

protected:
    /** What is drawn for the iterations of a batch besides the model's inputs, one entry each. */
    struct Draws {
        std::vector<double> logUniform;
        /** For the second test, where there is a surrogate. */
        std::vector<double> secondLogUniform;
        std::vector<double> lags;
    };
    /**
     * Draw the randomness of iterations start, start+1, ...: as many as there are inputs, which it writes.
     * Virtual, as the next one is, so that tests can plant faults and look on.
     */
    virtual void draw(OpenMM::ContextImpl& context, std::int64_t start, const ProposalInputs& inputs,
                      Draws& draws);
    /**
     * Compute the logarithm of the acceptance ratio of a proposal.
     *
     * @param energyChange   of the energy that decides, the System's or the surrogate's (kJ/mol)
     */
    virtual double logAcceptance(OpenMM::ContextImpl& context, std::int64_t entry, double energyChange,
                                 double kT);
    /**
     * Compute the logarithm of the acceptance ratio of a subchain.
     *
     * @param energyChange      of the System's energy (kJ/mol)
     * @param surrogateChange   of the surrogate's energy (kJ/mol)
     */
    virtual double logSecondAcceptance(double energyChange, double surrogateChange, double kT) const;

private:
    void takePositions(OpenMM::ContextImpl& context);
    void checkImages(OpenMM::ContextImpl& context, const ChainSettings& settings);
    void chooseOrigin();
    void chooseRandomNumbers(OpenMM::ContextImpl& context, const ChainSettings& settings);
    void guardRigidMotion(OpenMM::ContextImpl& context, const ChainSettings& settings);
    std::vector<double> energiesOf(OpenMM::ContextImpl& context, const ChainSettings& settings,
                                   const std::vector<std::vector<OpenMM::Vec3>>& states);
    /** What a subchain starts from, and where it has got to. */
    struct Subchain {
        double startSurrogate, surrogate;
        std::int64_t startLogDensityKnown;
        double startLogDensity;
        std::int64_t firstIteration;
        /** The last proposal that was accepted and is not in the Context yet, or -1. */
        std::int64_t pending = -1;
        /** Whether a proposal that is not an independent draw has been accepted: it may have turned or moved
         * the frame in which a flow of shapes places its draws. */
        bool leftFrame = false;
        double secondLogUniform = 0;
    };
    void iterate(OpenMM::ContextImpl& context, const ChainSettings& settings);
    void tryNextProposal(OpenMM::ContextImpl& context, const ChainSettings& settings);
    void tryNextSubchain(OpenMM::ContextImpl& context, const ChainSettings& settings);
    Subchain beginSubchain(OpenMM::ContextImpl& context);
    void growSubchain(OpenMM::ContextImpl& context, const ChainSettings& settings, Subchain& subchain);
    bool acceptsSubchain(OpenMM::ContextImpl& context, const ChainSettings& settings, Subchain& subchain);
    void bringToContext(OpenMM::ContextImpl& context, Subchain& subchain);
    void undoSubchain(OpenMM::ContextImpl& context, const Subchain& subchain);
    void noteVelocities(std::int64_t entry, bool accepted);
    void fetchVelocities(OpenMM::ContextImpl& context);
    void makeInputs(OpenMM::ContextImpl& context, std::int64_t start, std::int64_t size, bool fromContext);
    std::int64_t nextEntry(OpenMM::ContextImpl& context, const ChainSettings& settings, Subchain* subchain);
    void refreshState(OpenMM::ContextImpl& context, const ChainSettings& settings, bool changedByForces);
    bool entryIsUsable(std::int64_t entry) const;
    void prefetch(OpenMM::ContextImpl& context, std::int64_t start, std::int64_t size, bool fromContext);
    void discardPrefetched();
    bool drawsOnlyIndependently() const;
    int chooseBatchSize(const ChainSettings& settings) const;
    double independentLogDensity(OpenMM::ContextImpl& context);
    bool proposalIsFinite(std::int64_t entry) const;
    RandomKey randomKey() const;
    const std::vector<OpenMM::Vec3>& shifted(const std::vector<OpenMM::Vec3>& positions);
    OpenMM::Vec3 origin() const;
    bool tryProposal(OpenMM::ContextImpl& context, const ChainSettings& settings, std::int64_t entry);
    void settle(OpenMM::ContextImpl& context, double newEnergy);
    void leaveStateFor(std::int64_t entry);
    double computeEnergy(OpenMM::ContextImpl& context, const ChainSettings& settings,
                         bool withForces = false) const;
    std::string surrogateDigest() const;
    void restorePositions(OpenMM::ContextImpl& context);
    void writeVelocities(OpenMM::ContextImpl& context, const ChainSettings& settings);
    void finishRun(OpenMM::ContextImpl& context, const ChainSettings& settings);

    ProposalModel& model;
    SurrogateEnergy* surrogate = nullptr;
    mutable OpenMM::Kernel kernel;
    ChainSurroundings surroundings;
    RigidMotion rigidMotion;
    /** Whether model and surrogate are known not to tell periodic images apart. */
    bool imagesAreChecked = false;
    /** Whether the state came with setState(), and no step has been done since. */
    bool stateIsLoaded = false;
    int numAtoms;
    ChainCounters counters;
    std::vector<double> lagWeights;
    std::vector<OpenMM::Vec3> prefetchPositions;
    bool prefetchIsComputed = false;
    /** The number of the current thermodynamic state, and whether the prefetched proposals are of it. */
    std::uint64_t thermodynamicState = 0;
    bool thermodynamicStateIsKnown = false;
    ProposalBatch batch;
    std::vector<double> surrogateEnergies;
    Draws draws;
    /** The current positions in the Context's frame, and those before them. */
    std::vector<OpenMM::Vec3> statePositions, previousPositions;
    /** What shifted() returns; kept, as all arrays here, so that a step need not allocate any. */
    std::vector<OpenMM::Vec3> shiftedPositions;
    double stateEnergy = 0;
    /** Whether a subchain has led away from the current positions, and has not been accepted or rejected. */
    bool subchainMoved = false;
    /** The velocities that the last iteration led to, unless they have yet to be fetched: those of an
     * accepted proposal of the batch, or the auxiliary velocities of a rejected iteration. */
    std::vector<float> lastVelocities;
    std::int64_t lastAccepted = -1, lastRejected = -1;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_PROPOSAL_CHAIN_H_*/
