#ifndef TIMEWARP_BLOCK_GROUP_H_
#define TIMEWARP_BLOCK_GROUP_H_

#include "FlowMove.h"
#include "Target.h"
#include "internal/windowsExportTimewarp.h"
#include <cstdint>
#include <vector>

namespace TimewarpPlugin {

/**
 * Tries of several blocks, one after the other, which the System's energy decides on together.
 *
 * Each block b runs a subchain that is reversible with respect to exp(-S_b/kT), S_b being its local energy
 * where all else is at that moment.  So the chance of the path x_0, x_1, ..., x_n and that of the same path
 * backwards, by the same blocks in the opposite order, are as exp(-dS/kT) to 1, with
 *
 *     dS = sum_i S_b(i)(x_i) - S_b(i)(x_(i-1)),
 *
 * each difference in the surroundings of its own moment, which are the same in both directions.  If both
 * orders are equally likely, exp(-(dU - dS)/kT) is the acceptance ratio of Metropolis and Hastings for the
 * path.  The local energies need not be parts of one function, the blocks may touch or overlap, and one may
 * be there twice; but an order that is always the same would be wrong.  (Paths there and back are also what
 * decides on Neal's tempered transitions, Stat. Comput. 6, 353 (1996).)
 */
class EXPORT_TIMEWARP BlockGroup {
public:
    virtual ~BlockGroup() = default;
    /**
     * Begin at the current state, whose energy is known.
     */
    virtual void begin(const Target& target);
    /**
     * Note that a block is about to stay where its subchain has led, until all are decided on.
     *
     * @param start             where its subchain began
     * @param surrogateChange   of the energy that the subchain was decided by (kJ/mol)
     * @param metricChange      of the metric term
     */
    void add(FlowMove& flow, const FlowMove::Place& start, double surrogateChange, double metricChange);
    /**
     * Set what the decision is made by: the logarithm of a uniform deviate that nothing else has used.
     */
    void setLogUniform(double deviate) {
        logUniform = deviate;
    }
    /**
     * Decide on all that have moved.
     *
     * @return whether they stay; if not, they are back where the first one began
     */
    bool decide(Target& target);
    /**
     * Take all of them back.
     */
    void giveUp(Target& target);

protected:
    /**
     * Compute the logarithm of the acceptance ratio, without the metric term.  Virtual, so that tests can
     * plant faults.
     *
     * @param energyChange      of the System's energy (kJ/mol)
     * @param surrogateChange   the sum of those of all blocks (kJ/mol)
     */
    virtual double logAcceptance(Target& target, double energyChange, double surrogateChange) const;

private:
    struct Member {
        FlowMove* flow;
        FlowMove::Place start;
        std::vector<OpenMM::Vec3> positions;
    };
    std::vector<Member> members;
    std::int64_t startRevision = 0;
    double startEnergy = 0, surrogateChange = 0, metricChange = 0, logUniform = 0;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_BLOCK_GROUP_H_*/
