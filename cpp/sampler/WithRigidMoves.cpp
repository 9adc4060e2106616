#include "WithRigidMoves.h"

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

static const string KIND = "WithRigidMoves";

WithRigidMoves::WithRigidMoves(unique_ptr<Move> shape, FlowMove& flow, const Maker& make)
        : shape(std::move(shape)), flow(flow), make(make) {
}

void WithRigidMoves::attempt(Target& target) {
    // Most rigid moves are accepted, and nothing of what was prefetched for the old state holds then.

    if (rigid != nullptr)
        target.setLookAhead(1);
    shape->attempt(target);
    if (!flow.getRigidMotions().any())
        return;
    if (rigid == nullptr)
        rigid = make(target.getContext());
    rigid->setMotions(flow.getRigidMotions());
    rigid->attempt(target);
}

/*
 * Checkpoints.
 */

Record WithRigidMoves::save(ContextImpl& context) const {
    if (rigid == nullptr)
        return shape->save(context);
    Record record(KIND);
    record.set("place", static_cast<int64_t>(flow.getRigidMotions().place));
    record.set("orientation", static_cast<int64_t>(flow.getRigidMotions().orientation));
    record.parts.push_back(shape->save(context));
    record.parts.push_back(rigid->save(context));
    return record;
}

static RigidMotions motionsIn(const Record& record) {
    int64_t place, orientation;
    record.get("place", place);
    record.get("orientation", orientation);
    return {place != 0, orientation != 0};
}

void WithRigidMoves::check(const Record& record) const {
    if (record.kind != KIND) {
        shape->check(record);
        return;
    }
    if (record.parts.size() != 2 || !motionsIn(record).any())
        refuseRecord();
    shape->check(record.parts[0]);
    RigidMove::checkRecord(record.parts[1]);
}

void WithRigidMoves::resume(ContextImpl& context, const Record& record) {
    if (record.kind != KIND) {
        // Saved before they began, or where they were turned off.

        rigid.reset();
        flow.setRigidMotions({});
        shape->resume(context, record);
        return;
    }
    flow.setRigidMotions(motionsIn(record));
    shape->resume(context, record.parts[0]);
    if (rigid == nullptr)
        rigid = make(context);
    rigid->resume(context, record.parts[1]);
}
