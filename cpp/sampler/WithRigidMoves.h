#ifndef TIMEWARP_WITH_RIGID_MOVES_H_
#define TIMEWARP_WITH_RIGID_MOVES_H_

#include "FlowMove.h"
#include "Move.h"
#include "RigidMove.h"
#include "internal/windowsExportTimewarp.h"
#include <functional>
#include <memory>

namespace TimewarpPlugin {

/**
 * A move around one of shapes: as soon as the energy is found to depend on where the body lies (see
 * FlowMove::guardRigidMotion()), there is a rigid move for each try.  Until then nothing is done, and nothing
 * is needed for it.  Once they have begun rigid moves do not end.
 *
 * They come in rounds, each after the first of ROUND tries: most of them are accepted, which throws away what
 * was prefetched, and calling the model for each try would cost more than all the rest.
 */
class EXPORT_TIMEWARP WithRigidMoves : public Move {
public:
    /** The number of tries, and of rigid moves, in a round. */
    static const int ROUND = 8;
    using Maker = std::function<std::unique_ptr<RigidMove>(OpenMM::ContextImpl&)>;
    /**
     * @param shape   a flow, or a move around it
     * @param flow    that flow
     * @param make    makes the rigid move when it is needed
     */
    WithRigidMoves(std::unique_ptr<Move> shape, FlowMove& flow, const Maker& make);
    const std::vector<int>& getMoved() const override {
        return shape->getMoved();
    }
    void look(Target& target) override {
        shape->look(target);
    }
    void attempt(Target& target) override;
    bool canBeInGroup(const Target& target) const override;
    void lookForGroup(Target& target) override {
        shape->lookForGroup(target);
    }
    void attemptIn(BlockGroup& group, Target& target) override {
        shape->attemptIn(group, target);
    }
    void discardPrefetched() override {
        shape->discardPrefetched();
    }
    void writeVelocities(Target& target, bool always) override {
        shape->writeVelocities(target, always);
    }
    /** Get those of the move of shapes. */
    const MoveCounters& getCounters() const override {
        return shape->getCounters();
    }
    MoveCounters getRigidCounters() const {
        return rigid == nullptr ? MoveCounters() : rigid->getCounters();
    }
    Record save(OpenMM::ContextImpl& context) const override;
    void check(const Record& record) const override;
    void resume(OpenMM::ContextImpl& context, const Record& record) override;

private:
    std::unique_ptr<Move> shape;
    FlowMove& flow;
    Maker make;
    /** NULL until it is needed. */
    std::unique_ptr<RigidMove> rigid;
    /** How many tries are still to be made before the next round. */
    std::int64_t triesLeft = 0;
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_WITH_RIGID_MOVES_H_*/
