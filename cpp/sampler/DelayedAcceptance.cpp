#include "DelayedAcceptance.h"
#include "BlockGroup.h"
#include "TimewarpKernels.h"
#include "openmm/OpenMMException.h"
#include <algorithm>
#include <cmath>
#include <limits>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

DelayedAcceptance::DelayedAcceptance(unique_ptr<FlowMove> newFlow, shared_ptr<BatchEnergy> energy)
        : flow(std::move(newFlow)), energy(energy) {
}

void DelayedAcceptance::look(Target& target) {
    flow->look(target);
    lookAtSurroundings(target);

    // An energy that is made of the System's own terms tells no more images apart than the System does.

    if (imagesAreChecked || energy->feelsSurroundings())
        return;
    DeviceLoan loan(flow->getPositions().getKernel(), target.getContext());
    flow->getImages().check(loan, *energy, target.getContext(), flow->getPositions().get(), target.getKT());
    imagesAreChecked = true;
}

void DelayedAcceptance::lookAtSurroundings(Target& target) {
    if (!energy->feelsSurroundings() || surroundingsSeen == target.getRevision())
        return;
    DeviceLoan loan(flow->getPositions().getKernel(), target.getContext());
    if (energy->lookAtSurroundings(loan, target)) {
        stateEnergy.forget();
        batchNumber = -1;
    }
    surroundingsSeen = target.getRevision();
}

double DelayedAcceptance::energyOfState(Target& target) {
    const int64_t revision = flow->getState().revision;
    if (!stateEnergy.isOf(revision)) {
        DeviceLoan loan(flow->getPositions().getKernel(), target.getContext());
        stateEnergy.set(energy->compute(loan, flow->getPositions().get()), revision);
    }
    if (!isfinite(stateEnergy.value))
        throw OpenMMException(
                "Timewarp: " + energy->describe() +
                " of the current state is not finite, so no proposal could ever be accepted from it; "
                "start from another conformation, or " +
                energy->getRemedy());
    return stateEnergy.value;
}

double DelayedAcceptance::energyOfProposal(Target& target, int64_t entry) {
    const Prefetch& prefetch = flow->getPrefetch();
    if (batchNumber != prefetch.getNumber()) {
        DeviceLoan loan(flow->getPositions().getKernel(), target.getContext());
        energy->compute(loan, prefetch.batch, flow->getPositions().get().size(), prefetch.origin, energies);
        batchNumber = prefetch.getNumber();
    }
    return energies[entry];
}

/**
 * Run a subchain from the state.
 */
DelayedAcceptance::Subchain DelayedAcceptance::walk(Target& target) {
    if (flow->mustLook(target))
        look(target);

    // Also if it failed before, when the block's own positions had been looked at.

    lookAtSurroundings(target);
    flow->guardRigidMotion(target);
    double start = energyOfState(target);
    Subchain subchain{flow->getPlace(), start, start};
    const int64_t proposals = static_cast<int64_t>(target.getLookAhead()) * subchainLength;
    flow->beginTry();
    try {
        for (int i = 0; i < subchainLength;) {
            target.setLookAhead(min<int64_t>(proposals - i, numeric_limits<int>::max()));
            i += grow(target, subchain);
        }
    }
    catch (...) {
        flow->comeBack(target, subchain.start);
        throw;
    }
    return subchain;
}

void DelayedAcceptance::attempt(Target& target) {
    const Subchain subchain = walk(target);
    bool accepted;
    try {
        accepted = flow->isAway() && accepts(target, subchain);
    }
    catch (...) {
        flow->comeBack(target, subchain.start);
        throw;
    }
    if (accepted) {
        stateEnergy.set(subchain.energy, flow->getState().revision);
        surroundingsSeen = target.getRevision();
    }
    else if (flow->isAway()) {
        // The rejected move began with the first auxiliary velocities, so they are what it returns to.

        flow->comeBack(target, subchain.start);
        flow->noteRejection(subchain.start);
    }
    flow->count(1, 0, 0);
}

void DelayedAcceptance::lookForGroup(Target& target) {
    if (flow->mustLook(target))
        look(target);

    // It compares energies, and would have nothing to compare with when another block has moved.

    flow->guardRigidMotion(target);
}

void DelayedAcceptance::attemptIn(BlockGroup& group, Target& target) {
    const Subchain subchain = walk(target);
    if (flow->isAway()) {
        try {
            flow->bringToContext(target);
            target.getContext().computeVirtualSites();
            group.add(*flow, subchain.start, subchain.energy - subchain.startEnergy,
                      flow->metricChange(target));
        }
        catch (...) {
            flow->comeBack(target, subchain.start);
            throw;
        }
        flow->stay(target, numeric_limits<double>::quiet_NaN());
        stateEnergy.set(subchain.energy, flow->getState().revision);
        surroundingsSeen = target.getRevision();
    }
    group.setLogUniform(subchain.secondLogUniform);
    flow->count(1, 0, 0);
}

int DelayedAcceptance::grow(Target& target, Subchain& subchain) {
    if (int alternatives = flow->countAlternatives(target)) {
        choose(target, subchain, alternatives);
        return alternatives;
    }
    int64_t entry = flow->next(target);
    const Draws& draws = flow->getPrefetch().draws;
    double newEnergy = energyOfProposal(target, entry);
    bool possible = flow->isPossible(entry, newEnergy);
    bool accepted = possible &&
                    draws.logUniform[entry] < flow->logAcceptance(target, entry, newEnergy - subchain.energy);
    flow->endIteration(entry, accepted);
    subchain.secondLogUniform = draws.secondLogUniform[entry];
    flow->count(0, accepted, possible && !accepted);
    if (accepted) {
        subchain.energy = newEnergy;
        flow->goTo(entry);
    }
    return 1;
}

void DelayedAcceptance::choose(Target& target, Subchain& subchain, int alternatives) {
    flow->computeFromState(target, alternatives);
    logWeights.clear();
    int numPossible = 0;
    for (int64_t entry = 0; entry < alternatives; entry++) {
        const double newEnergy = energyOfProposal(target, entry);
        const bool possible = flow->isPossible(entry, newEnergy);
        numPossible += possible;
        logWeights.push_back(possible ? flow->logAcceptance(target, entry, newEnergy - subchain.energy)
                                      : -numeric_limits<double>::infinity());
    }
    const Draws& draws = flow->getPrefetch().draws;
    const int64_t chosen = pick(logWeights, exp(draws.logUniform[0]));
    subchain.secondLogUniform = draws.secondLogUniform[0];
    flow->count(0, chosen >= 0, numPossible - (chosen >= 0));
    if (chosen >= 0)
        subchain.energy = energies[chosen];
    flow->endAlternatives(chosen);
}

int64_t DelayedAcceptance::pick(const vector<double>& logWeights, double uniform) const {
    // The state's own weight is 1.

    const double largest = max(0.0, *max_element(logWeights.begin(), logWeights.end()));
    double sum = exp(-largest);
    for (double logWeight : logWeights)
        sum += exp(logWeight - largest);
    double rest = uniform * sum - exp(-largest);
    if (rest <= 0)
        return -1;
    int64_t last = -1;
    for (size_t i = 0; i < logWeights.size(); i++) {
        const double weight = exp(logWeights[i] - largest);
        if (weight == 0)
            continue;
        last = i;
        rest -= weight;
        if (rest <= 0)
            break;
    }
    return last;
}

double DelayedAcceptance::logSecondAcceptance(double energyChange, double surrogateChange, double kT) const {
    return -(energyChange - surrogateChange) / kT;
}

bool DelayedAcceptance::accepts(Target& target, const Subchain& subchain) {
    flow->bringToContext(target);
    double newEnergy = target.computeEnergy();
    flow->noteEnergyOfProposal(newEnergy);
    double logRatio = logSecondAcceptance(newEnergy - target.getEnergy(),
                                          subchain.energy - subchain.startEnergy, target.getKT()) +
                      flow->metricChange(target);
    if (!isfinite(newEnergy) || !(subchain.secondLogUniform < logRatio))
        return false;
    flow->stay(target, newEnergy);
    return true;
}

Record DelayedAcceptance::save(ContextImpl& context) const {
    Record record("DelayedAcceptance");
    record.parts.push_back(flow->save(context));
    bool known = stateEnergy.isOf(flow->getState().revision) &&
                 flow->getPositions().areTheContexts(context) && !energy->feelsSurroundings();
    record.set("energyDigest", energy->getDigest());
    record.set("stateEnergyIsKnown", static_cast<int64_t>(known));
    record.set("stateEnergy", known ? stateEnergy.value : 0.0);
    return record;
}

void DelayedAcceptance::check(const Record& record) const {
    flow->check(record);
}

void DelayedAcceptance::resume(ContextImpl& context, const Record& record) {
    flow->resume(context, record);
    stateEnergy.forget();
    batchNumber = surroundingsSeen = -1;
    if (record.kind != "DelayedAcceptance")
        return;
    string digest;
    int64_t known;
    double value;
    record.get("energyDigest", digest);
    record.get("stateEnergyIsKnown", known);
    record.get("stateEnergy", value);
    if (known && digest == energy->getDigest() && flow->hasResumed())
        stateEnergy.set(value, flow->getState().revision);
}
