#ifndef TIMEWARP_DELAYED_ACCEPTANCE_H_
#define TIMEWARP_DELAYED_ACCEPTANCE_H_

#include "BatchEnergy.h"
#include "FlowMove.h"
#include "Move.h"
#include "internal/windowsExportTimewarp.h"
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace TimewarpPlugin {

/**
 * A move around a FlowMove, whose proposals it tests with another energy first (delayed acceptance; Christen
 * and Fox, J. Comput. Graph. Stat. 14, 795 (2005); with more than one proposal Liu's surrogate transition
 * method). Where a subchain of them ends is then a proposal of its own, which the System's energy accepts
 * with probability min(1, exp(-(dU - dS)/kT)), dS being the change of the other energy.
 */
class EXPORT_TIMEWARP DelayedAcceptance : public Move {
public:
    /**
     * @param flow     makes the proposals
     * @param energy   tests them first
     */
    DelayedAcceptance(std::unique_ptr<FlowMove> flow, std::shared_ptr<BatchEnergy> energy);
    /**
     * Set the number of proposals of a try.
     */
    void setSubchainLength(int length) {
        subchainLength = length;
        flow->setTryLength(length);
    }
    FlowMove& getFlow() const {
        return *flow;
    }
    const std::vector<int>& getMoved() const override {
        return flow->getMoved();
    }
    void look(Target& target) override;
    void attempt(Target& target) override;
    bool canBeInGroup(const Target& target) const override {
        return true;
    }
    void lookForGroup(Target& target) override;
    void attemptIn(BlockGroup& group, Target& target) override;
    void discardPrefetched() override {
        flow->discardPrefetched();
    }
    void writeVelocities(Target& target, bool always) override {
        flow->writeVelocities(target, always);
    }
    const MoveCounters& getCounters() const override {
        return flow->getCounters();
    }
    Record save(OpenMM::ContextImpl& context) const override;
    void check(const Record& record) const override;
    void resume(OpenMM::ContextImpl& context, const Record& record) override;
    /**
     * Get the energy that tests first of the current state (kJ/mol).
     */
    const Known<double>& getStateEnergy() const {
        return stateEnergy;
    }

protected:
    /**
     * Compute the logarithm of the acceptance ratio of a subchain, without the metric term.  Virtual, so that
     * tests can plant faults.
     *
     * @param energyChange      of the System's energy (kJ/mol)
     * @param surrogateChange   of the other energy (kJ/mol)
     */
    virtual double logSecondAcceptance(double energyChange, double surrogateChange, double kT) const;
    /**
     * Pick one of some alternatives, or the state, in proportion to their weights.  Virtual, as the other is.
     *
     * @param logWeights   exp(-S/kT)/q of each over that of the state, as logarithms
     * @param uniform      a uniform deviate in (0, 1]
     * @return the entry, or -1 for the state
     */
    virtual std::int64_t pick(const std::vector<double>& logWeights, double uniform) const;

private:
    /** Where a subchain has got to. */
    struct Subchain {
        FlowMove::Place start;
        double startEnergy, energy;
        double secondLogUniform = 0;
    };
    void lookAtSurroundings(Target& target);
    Subchain walk(Target& target);
    double energyOfState(Target& target);
    double energyOfProposal(Target& target, std::int64_t entry);
    /** Make the next proposal, or a group of alternatives; get how many iterations that were. */
    int grow(Target& target, Subchain& subchain);
    void choose(Target& target, Subchain& subchain, int alternatives);
    bool accepts(Target& target, const Subchain& subchain);

    std::unique_ptr<FlowMove> flow;
    std::shared_ptr<BatchEnergy> energy;
    int subchainLength = 1;
    bool imagesAreChecked = false;
    /** By the number of the block's state. */
    Known<double> stateEnergy;
    /** Of the prefetched batch of that number. */
    std::vector<double> energies;
    /** Of alternatives; kept so that a try need not allocate any. */
    std::vector<double> logWeights;
    std::int64_t batchNumber = -1;
    /** The number of the Target's state whose surroundings both were computed in. */
    std::int64_t surroundingsSeen = -1;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_DELAYED_ACCEPTANCE_H_*/
