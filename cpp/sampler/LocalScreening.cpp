#include "LocalScreening.h"
#include "Target.h"

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

shared_ptr<const SystemState> SharedSystemState::get(const Target& target) {
    if (state.isOf(target.getRevision()))
        return state.value;
    ContextImpl& context = target.getContext();
    context.getPositions(found.positions);
    context.getPeriodicBoxVectors(found.box[0], found.box[1], found.box[2]);
    found.parameters = context.getParameters();
    const bool isTheSame = (state.value != nullptr && *state.value == found);
    state.set(isTheSame ? state.value : make_shared<SystemState>(found), target.getRevision());
    return state.value;
}

LocalScreening::LocalScreening(unique_ptr<LocalEnergy> newEnergy, shared_ptr<SharedSystemState> state)
        : energy(std::move(newEnergy)), state(state) {
}

string LocalScreening::getDigest() const {
    return energy->getDigest();
}

bool LocalScreening::lookAtSurroundings(const DeviceLoan& loan, const Target& target) {
    auto current = state->get(target);
    if (current == seen)
        return false;
    const bool mayBeOthers = energy->setState(loan, current);
    seen = current;
    return mayBeOthers;
}

void LocalScreening::compute(const DeviceLoan& loan, const ProposalBatch& batch, int numAtoms,
                             const Vec3& origin, vector<double>& energies) {
    energy->compute(loan, batch, numAtoms, origin, energies);
}

double LocalScreening::compute(const DeviceLoan& loan, const vector<Vec3>& positions) {
    return energy->compute(loan, positions);
}
