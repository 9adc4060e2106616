#include "BlockGroup.h"
#include <cmath>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

void BlockGroup::begin(const Target& target) {
    members.clear();
    startRevision = target.getRevision();
    startEnergy = target.getEnergy();
    surrogateChange = metricChange = 0;
}

void BlockGroup::add(FlowMove& flow, const FlowMove::Place& start, double surrogate, double metric) {
    members.push_back({&flow, start, flow.getPositions().get()});
    surrogateChange += surrogate;
    metricChange += metric;
}

bool BlockGroup::decide(Target& target) {
    if (members.empty())
        return false;
    bool accepted;
    double newEnergy;
    try {
        newEnergy = target.computeEnergy();
        accepted =
                isfinite(newEnergy) &&
                logUniform < logAcceptance(target, newEnergy - startEnergy, surrogateChange) + metricChange;
    }
    catch (...) {
        giveUp(target);
        throw;
    }
    if (accepted)
        target.noteEnergy(newEnergy);
    else
        giveUp(target);
    members.clear();
    return accepted;
}

void BlockGroup::giveUp(Target& target) {
    // The last one first, since they may have particles in common.

    for (auto member = members.rbegin(); member != members.rend(); ++member)
        member->flow->takeBack(target, member->start, member->positions);
    members.clear();
    target.getContext().computeVirtualSites();
    target.rollBack(startRevision, startEnergy);
}

double BlockGroup::logAcceptance(Target& target, double energyChange, double surrogate) const {
    return -(energyChange - surrogate) / target.getKT();
}
