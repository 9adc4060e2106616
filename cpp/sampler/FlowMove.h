#ifndef TIMEWARP_FLOW_MOVE_H_
#define TIMEWARP_FLOW_MOVE_H_

#include "BlockPositions.h"
#include "BlockVelocities.h"
#include "ConstraintMetric.h"
#include "IterationNoise.h"
#include "KnownState.h"
#include "Move.h"
#include "PeriodicImages.h"
#include "Prefetch.h"
#include "ProposalModel.h"
#include "RigidMotionGuard.h"
#include "internal/windowsExportTimewarp.h"
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace TimewarpPlugin {

/**
 * Where a block stands: what it must know of its System and Context.
 */
struct BlockSurroundings {
    /** The block's place among the moves of its chain, which gives it random numbers of its own. */
    std::uint16_t number = 0;
    /** The particle of each of the model's atoms. */
    std::vector<int> particles;
    /** The atoms among them that proposals move, and their particles. */
    std::vector<int> movedAtoms, moved;
    /** Which of the model's stretches are constrained, in ascending order. */
    std::vector<int> keptStretches;
    PeriodicImages images;
    BlockVelocities velocities;
    ConstraintMetric metric;
    /** How far rigid moves go that are made after this one where the energy feels them. */
    RigidMoveSize rigidMoves;
    /** Which rigid motions of its particles nothing else that acts on the Context makes, given the positions
     * of all particles (nm). */
    std::function<KeptMotions(OpenMM::ContextImpl&, const std::vector<OpenMM::Vec3>&, const DeviceLoan&)>
            keptByOthers = [](OpenMM::ContextImpl&, const std::vector<OpenMM::Vec3>&, const DeviceLoan&) {
                return KeptMotions();
            };
};

/**
 * Proposals of one model for one set of particles.
 *
 * The model's target is exp(-U(x)/kT) N(v; 0, I), and v is drawn anew before every single proposal. Proposals
 * are computed in batches (see Prefetch): the first acceptance throws the rest away.  Only where it accepts
 * an independent draw (infinite lag time) do the other independent draws hold, which do not depend on the
 * state: a flow of shapes places all of them in one and the same frame.
 *
 * The model works in single precision, which is finest near the origin, so it is shown positions relative to
 * the centroid of the first state.  That origin does not follow the state: one that did would be another in
 * the reverse move, and a flow that is not translation invariant would have the wrong density there.  In a
 * periodic System, where only invariant flows are let through, it is chosen anew if something else carries
 * the block away from it.
 */
class EXPORT_TIMEWARP FlowMove : public Move {
public:
    /**
     * @param model          the source of proposals, which others may use, too
     * @param kernel         a TimewarpStateKernel, initialized for the block's particles
     * @param surroundings   where it stands
     */
    FlowMove(std::shared_ptr<ProposalModel> model, const OpenMM::Kernel& kernel,
             const BlockSurroundings& surroundings);
    /**
     * Set the number of proposals computed together, 0 to adapt.
     */
    void setBatchSize(int size) {
        batchSize = size;
    }
    /**
     * Set how often each of the model's lag times is picked.  Proposals prefetched with lag times that were
     * picked otherwise are thrown away, so that the chain does not depend on how far it reached.
     */
    void setLagWeights(const std::vector<double>& weights);
    /**
     * Set how independent draws are correlated with the state.  A flow f makes proposals f(rho z + sqrt(1 -
     * rho^2) xi) from a state f(z), xi being normal deviates.  That is reversible with respect to the flow's
     * own density, as independent draws (rho = 0) are, so that the acceptance ratio is the same.
     *
     * Where a step has a share less than 1, each number of z has that chance to be drawn, and else keeps its
     * value: whichever are drawn, that is reversible, too.  A step of torsions draws that many of the numbers
     * that the model names for them, or all of these if there are no more.
     *
     * @param choices   steps, rho in [0, 1), and how often each is picked; none for draws only
     */
    void setLatentCorrelations(const std::vector<std::pair<LatentStep, double>>& choices);
    const std::vector<double>& getLagWeights() const {
        return lagWeights;
    }
    const std::vector<int>& getMoved() const override {
        return surroundings.moved;
    }
    /**
     * Get whether the Target's state is another than was looked at last.
     */
    bool mustLook(const Target& target) const {
        return seen != target.getRevision();
    }
    void look(Target& target) override;
    void attempt(Target& target) override;
    void discardPrefetched() override;
    void writeVelocities(Target& target, bool always) override;
    const MoveCounters& getCounters() const override {
        return counters;
    }
    Record save(OpenMM::ContextImpl& context) const override;
    void check(const Record& record) const override;
    void resume(OpenMM::ContextImpl& context, const Record& record) override;

    /** What a checkpoint holds. */
    struct Saved {
        MoveCounters counters;
        OpenMM::Vec3 origin;
        std::int64_t originIsKnown = 0, logDensityIsKnown = 0;
        double logDensity = 0;
        std::int64_t prefetchStart = 0, prefetchSize = 0;
        /** 1 if an independent draw has been accepted since the batch was prefetched, so that only its other
         * independent draws hold. */
        std::int64_t positionsMoved = 0;
        std::vector<double> lagWeights;
        std::vector<OpenMM::Vec3> prefetchPositions;
        /** Tells whether the Context has the positions that this belongs to. */
        std::string positionsDigest;
    };
    /**
     * Get the record of a flow, also if it was saved as part of a move around it.
     */
    static const Record& flowRecord(const Record& record);
    /**
     * Call a function with the name and the value of each field.
     */
    template <class Fields, class Function> static void visitFields(Fields&& fields, Function visit) {
        visitCounters(fields.counters, visit);
        visit("originX", fields.origin[0]);
        visit("originY", fields.origin[1]);
        visit("originZ", fields.origin[2]);
        visit("originKnown", fields.originIsKnown);
        visit("logDensityKnown", fields.logDensityIsKnown);
        visit("logDensity", fields.logDensity);
        visit("prefetchStart", fields.prefetchStart);
        visit("prefetchSize", fields.prefetchSize);
        visit("positionsMoved", fields.positionsMoved);
        visit("lagWeights", fields.lagWeights);
        visit("prefetchPositions", fields.prefetchPositions);
        visit("positionsDigest", fields.positionsDigest);
    }

    /*
     * The parts of a try, for moves around this one.
     */

    /** Where the move has got to, for a way back. */
    struct Place {
        BlockState state;
        Known<double> logDensity;
        std::int64_t iteration = 0;
        bool hasMoved = false;
    };
    Place getPlace() const {
        return {state, logDensity, counters.iteration, hasMoved};
    }
    /**
     * Find out whether the energy depends on where the block lies, if nothing moves it as a whole: then rigid
     * moves must be made from now on (see getRigidMotions()), or an exception is thrown where there are none.
     */
    void guardRigidMotion(Target& target);
    /**
     * Get which rigid motions must be made by moves of their own.
     */
    const RigidMotions& getRigidMotions() const {
        return guard.getMade();
    }
    void setRigidMotions(const RigidMotions& motions) {
        guard.setMade(motions);
    }
    /**
     * Set how many iterations a try has.  They are in groups, each of which has one kind of latent step.
     */
    void setTryLength(int iterations);
    void beginTry() {
        tryStart = counters.iteration;
    }
    /**
     * Get how many proposals there are from the current iteration on that are alternatives to each other: all
     * of a group whose latent step knows the state, or 0.
     */
    int countAlternatives(Target& target) const;
    /**
     * Compute the proposals of so many iterations from the current state.  If they are alternatives, they and
     * the state are exchangeable draws of the flow's density, given what they have in common: of them all one
     * may be picked in proportion to exp(-U/kT)/q (Calderhead, PNAS 111, 17408 (2014)).
     */
    void computeFromState(Target& target, std::int64_t size);
    /**
     * Finish the iterations of alternatives.
     *
     * @param chosen   the entry that was chosen, or -1 for the state
     */
    void endAlternatives(std::int64_t chosen);
    /**
     * Get the entry of the batch that is the proposal of the current iteration.  Computes a batch if there is
     * none that holds.
     */
    std::int64_t next(Target& target);
    /**
     * Get whether proposal and densities are finite.  Counts those that are not.
     *
     * @param energy   an energy that was computed of it, which must be, too
     */
    bool isPossible(std::int64_t entry, double energy = 0);
    /**
     * Compute the logarithm of the acceptance ratio of a proposal, without the metric term.
     *
     * @param energyChange   of the energy that decides, the System's or another (kJ/mol)
     */
    virtual double logAcceptance(Target& target, std::int64_t entry, double energyChange);
    /**
     * Get the change of the metric term log det(Z)/2 from the state to the positions that are in the Context.
     */
    double metricChange(Target& target);
    /**
     * Get the metric term of the state, if it is known.
     */
    const Known<double>& getMetricTerm() const {
        return metricTerm;
    }
    /**
     * Finish an iteration.
     */
    void endIteration(std::int64_t entry, bool accepted);
    /**
     * Count a proposal whose energy is not finite.
     */
    void noteEnergyOfProposal(double energy);
    /**
     * Go on from a proposal whose positions need not be in the Context yet.
     */
    void goTo(std::int64_t entry);
    /**
     * Write the positions of the proposal that the move went on from to the Context.
     */
    void bringToContext(Target& target);
    /**
     * The positions in the Context, to which goTo() has led, are the state's.
     */
    void stay(Target& target, double newEnergy);
    /**
     * Return to the state's positions, and to what was known of them.
     */
    void comeBack(Target& target, const Place& start);
    /**
     * Undo what stay() has settled.
     *
     * @param start    where the try began
     * @param before   the positions of all atoms then (nm)
     */
    void takeBack(Target& target, const Place& start, const std::vector<OpenMM::Vec3>& before);
    /**
     * Note that a rejection returns to the auxiliary velocities that the try began with.
     */
    void noteRejection(const Place& start);
    /**
     * Get whether goTo() has led away from the state's positions, neither stay() nor comeBack() having been
     * called since.
     */
    bool isAway() const {
        return away;
    }
    const Prefetch& getPrefetch() const {
        return prefetch;
    }
    BlockPositions& getPositions() {
        return positions;
    }
    ProposalModel& getModel() const {
        return *model;
    }
    PeriodicImages& getImages() {
        return surroundings.images;
    }
    const BlockState& getState() const {
        return state;
    }
    /**
     * Get log q of the state as an independent draw, if it is known.
     */
    const Known<double>& getLogDensity() const {
        return logDensity;
    }
    /**
     * Get whether the positions were those of the record when resume() was called last.
     */
    bool hasResumed() const {
        return resumed;
    }
    /**
     * Count what a move around this one has decided.
     */
    void count(int tried, int surrogateAccepted, int screened) {
        counters.numTried += tried;
        counters.numSurrogateAccepted += surrogateAccepted;
        counters.numScreened += screened;
    }

protected:
    /**
     * Draw the randomness of iterations start, start+1, ...: as many as there are inputs, which it writes.
     * Virtual, as logAcceptance() is, so that tests can plant faults and look on.
     */
    virtual void draw(Target& target, std::int64_t start, const ProposalInputs& inputs, Draws& draws);
    /**
     * Turn velocities drawn for the time of the positions (dimensionless) into those that dynamics go on
     * with.
     */
    virtual void goBackHalfTimeStep(Target& target, std::vector<float>& velocities);

private:
    void takePositions(Target& target);
    void imposeLengths(Target& target);
    void writePositions(Target& target, const std::vector<double>& coordinates);
    void chooseOrigin();
    void drawVelocities(Target& target, std::int64_t iteration, int block, std::vector<float>& velocities);
    void fetchVelocities(Target& target);
    Saved getSaved(OpenMM::ContextImpl& context) const;
    std::string particlesSha256() const;
    void findKeptMotions(Target& target);
    double changeThatCounts(Target& target);
    std::vector<double> energiesAfter(Target& target, const std::vector<RigidMotion>& motions);
    bool isDraw(std::int64_t entry) const;
    bool holds(std::int64_t entry) const;
    LatentStep pickLatentStep(double lag, double deviate) const;
    /** The first iteration of the group that an iteration is in, and the first after it. */
    std::int64_t groupStart(std::int64_t iteration) const;
    std::int64_t groupEnd(std::int64_t iteration) const;
    int afterNormals() const;
    bool areAlternatives(const LatentStep& step) const;
    /** The lag time and the latent step of a group. */
    std::pair<double, LatentStep> drawGroup(Target& target, std::int64_t start) const;
    void drawCorrelations(Target& target, std::int64_t start, int noiseSize, Draws& draws) const;
    /** Get how many of so many iterations come before the next alternatives. */
    std::int64_t withoutAlternatives(Target& target, std::int64_t size) const;
    /**
     * Choose so many of the numbers of the noise that make rotatable torsions, each set of them as often.
     */
    std::vector<int> chooseTorsions(int number, IterationNoise& noise) const;
    bool drawsOnlyIndependently() const;
    int chooseBatchSize() const;
    void compute(Target& target, std::int64_t start, std::int64_t size, bool fromContext);
    void makeInputs(Target& target, std::int64_t start, std::int64_t size, bool fromContext);
    double independentLogDensity(Target& target);
    bool settle(Target& target, double newEnergy);
    void leaveFor(std::int64_t entry);
    bool tryEntry(Target& target, std::int64_t entry);
    const std::vector<OpenMM::Vec3>& shifted(const std::vector<OpenMM::Vec3>& absolute);

    std::shared_ptr<ProposalModel> model;
    MoveCounters counters;
    BlockPositions positions;
    BlockSurroundings surroundings;
    RigidMotionGuard guard;
    std::vector<double> lagWeights;
    std::vector<std::pair<LatentStep, double>> latentSteps;
    int batchSize = 0;
    /** Of the current try. */
    std::int64_t tryStart = 0;
    int tryLength = 1;
    OpenMM::Vec3 origin;
    bool originIsKnown = false;
    /** Whether the model is known not to tell periodic images apart. */
    bool imagesAreChecked = false;
    Prefetch prefetch;
    BlockState state;
    std::int64_t lastRevision = 0;
    /** Of the state as an independent draw. */
    Known<double> logDensity;
    /** The metric term of the state's positions, by the number of these. */
    Known<double> metricTerm;
    /** The number of the Target's state that was looked at last, whether the block's positions were found to
     * be others then, and the last change that the guard has been asked about. */
    std::int64_t seen = -1;
    bool foundMoved = false;
    std::int64_t guarded = -1;
    bool away = false, resumed = false;
    /** The proposal that goTo() led to and that is not in the Context yet, or -1. */
    std::int64_t pending = -1;
    /** Where the velocities of the last iteration come from: an accepted proposal of the batch, or the
     * iteration that was rejected; or -1. */
    std::int64_t lastAccepted = -1, lastRejected = -1;
    std::vector<float> lastVelocities, contextVelocities;
    /** Whether a proposal has been accepted since velocities were written. */
    bool hasMoved = false;
    /** What shifted() returns; kept, as all arrays here, so that a step need not allocate any. */
    std::vector<OpenMM::Vec3> shiftedPositions, proposedPositions;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_FLOW_MOVE_H_*/
