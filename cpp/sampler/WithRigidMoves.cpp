#include "WithRigidMoves.h"
#include <algorithm>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

static const string KIND = "WithRigidMoves";

WithRigidMoves::WithRigidMoves(unique_ptr<Move> shape, FlowMove& flow, const Maker& make)
        : shape(std::move(shape)), flow(flow), make(make) {
}

void WithRigidMoves::attempt(Target& target) {
    // The state lasts until the next round: until the first of the tries that follow.

    if (rigid != nullptr)
        target.setLookAhead(min<int64_t>(target.getLookAhead(), triesLeft + 1));
    shape->attempt(target);
    if (!flow.getRigidMotions().any())
        return;
    if (rigid == nullptr)
        rigid = make(target.getContext());
    if (triesLeft > 0) {
        triesLeft--;
        return;
    }
    rigid->setMotions(flow.getRigidMotions());
    for (int i = 0; i < ROUND; i++)
        rigid->attempt(target);
    triesLeft = ROUND - 1;
}

bool WithRigidMoves::canBeInGroup(const Target& target) const {
    // Dynamics turn and displace it.

    return target.getTimeStep() > 0 && shape->canBeInGroup(target);
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
    record.set("triesLeft", triesLeft);
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

static int64_t triesLeftIn(const Record& record) {
    int64_t tries;
    record.get("triesLeft", tries);
    return tries;
}

void WithRigidMoves::check(const Record& record) const {
    if (record.kind != KIND) {
        shape->check(record);
        return;
    }
    const int64_t tries = triesLeftIn(record);
    if (record.parts.size() != 2 || !motionsIn(record).any() || tries < 0 || tries >= ROUND)
        refuseRecord();
    shape->check(record.parts[0]);
    RigidMove::checkRecord(record.parts[1]);
}

void WithRigidMoves::resume(ContextImpl& context, const Record& record) {
    if (record.kind != KIND) {
        // Saved before they began, or where they were turned off.

        rigid.reset();
        triesLeft = 0;
        flow.setRigidMotions({});
        shape->resume(context, record);
        return;
    }
    flow.setRigidMotions(motionsIn(record));
    triesLeft = triesLeftIn(record);
    shape->resume(context, record.parts[0]);
    if (rigid == nullptr)
        rigid = make(context);
    rigid->resume(context, record.parts[1]);
}
