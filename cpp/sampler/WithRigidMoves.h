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
 * FlowMove::guardRigidMotion()), a rigid move follows each try.  Until then nothing is done, and nothing is
 * needed for it.  Once they have begun rigid moves do not end.
 */
class EXPORT_TIMEWARP WithRigidMoves : public Move {
public:
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
};

} // namespace TimewarpPlugin

#endif /*TIMEWARP_WITH_RIGID_MOVES_H_*/
