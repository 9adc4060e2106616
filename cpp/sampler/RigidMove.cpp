#include "RigidMove.h"
#include <cmath>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

// The smallest motion, as a share of the largest.
static const double SMALLEST = 0.01;

RigidMove::RigidMove(uint16_t number, const Kernel& kernel, const vector<int>& particles,
                     const ConstraintMetric& metric, const RigidMoveSize& largest)
        : number(number), positions(kernel), particles(particles), metric(metric), largest(largest) {
}

void RigidMove::look(Target& target) {
    seen = target.getRevision();
    if (!positions.areTheContexts(target.getContext()))
        positions.take(target.getContext(),
                       [this](size_t atom) { return "particle " + to_string(particles[atom]); });
}

static Vec3 drawDirection(IterationNoise& noise) {
    const double twoPi = 6.283185307179586477;
    double z = 2 * noise.uniform() - 1, angle = twoPi * noise.uniform();
    double radius = sqrt(max(0.0, 1 - z * z));
    return Vec3(radius * cos(angle), radius * sin(angle), z);
}

RigidMotion RigidMove::draw(IterationNoise& noise, const vector<Vec3>& state) const {
    const bool turns = motions.orientation && (!motions.place || noise.uniform() <= 0.5);
    const double share = pow(SMALLEST, noise.uniform());
    RigidMotion motion;
    if (turns) {
        motion.axis = drawDirection(noise);
        motion.angle = largest.rotation * share;
    }
    else if (motions.place)
        motion.displacement = drawDirection(noise) * (largest.translation * share);
    return motion;
}

double RigidMove::logAcceptance(double energyChange, double kT) const {
    return -energyChange / kT;
}

void RigidMove::attempt(Target& target) {
    if (seen != target.getRevision())
        look(target);
    IterationNoise noise(target.getRandomKey(number), counters.iteration);
    const double logUniform = log(noise.uniform());
    const bool accepted = tryMotion(target, draw(noise, positions.get()), logUniform);
    counters.iteration++;
    counters.numTried++;
    counters.numAccepted += accepted;
}

bool RigidMove::tryMotion(Target& target, const RigidMotion& motion, double logUniform) {
    proposal.clear();
    for (const Vec3& p : motion.apply(positions.get()))
        proposal.insert(proposal.end(), {p[0], p[1], p[2]});

    // Nothing pulls a constrained bond back that rounding has made longer.

    metric.imposeLengths(proposal);
    ContextImpl& context = target.getContext();
    TimewarpStateKernel& kernel = positions.getKernel();
    kernel.setProposals(context, proposal, Vec3());
    double newEnergy;
    try {
        kernel.applyProposal(context, 0);
        newEnergy = target.computeEnergy();
    }
    catch (...) {
        positions.restore(context);
        throw;
    }

    // A comparison with NaN is false, so whatever cannot be computed is rejected.

    if (!isfinite(newEnergy) ||
        !(logUniform < logAcceptance(newEnergy - target.getEnergy(), target.getKT()))) {
        positions.restore(context);
        return false;
    }
    positions.settle(context);
    target.accept(newEnergy);
    seen = target.getRevision();
    return true;
}

/*
 * Checkpoints.
 */

static MoveCounters countersIn(const Record& record) {
    MoveCounters counters;
    visitCounters(counters, [&](const char* name, int64_t& value) { record.get(name, value); });
    return counters;
}

Record RigidMove::save(ContextImpl& context) const {
    Record record("RigidMove");
    visitCounters(counters, [&](const char* name, int64_t value) { record.set(name, value); });
    return record;
}

void RigidMove::checkRecord(const Record& record) {
    const MoveCounters saved = countersIn(record);
    if (saved.numAccepted < 0 || saved.numAccepted > saved.numTried || saved.numTried > saved.iteration)
        refuseRecord();
}

void RigidMove::resume(ContextImpl& context, const Record& record) {
    counters = countersIn(record);
    positions.load(context);
    seen = -1;
}
