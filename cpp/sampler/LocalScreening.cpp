#include "LocalScreening.h"
#include "Target.h"

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

shared_ptr<const SystemState> SharedSystemState::get(const Target& target) {
    if (!state.isOf(target.getRevision())) {
        ContextImpl& context = target.getContext();
        auto current = make_shared<SystemState>();
        context.getPositions(current->positions);
        context.getPeriodicBoxVectors(current->box[0], current->box[1], current->box[2]);
        current->parameters = context.getParameters();
        state.set(current, target.getRevision());
    }
    return state.value;
}

LocalScreening::LocalScreening(unique_ptr<LocalEnergy> newEnergy, shared_ptr<SharedSystemState> state)
        : energy(std::move(newEnergy)), state(state) {
}

string LocalScreening::getDigest() const {
    return energy->getDigest();
}

void LocalScreening::lookAtSurroundings(const DeviceLoan& loan, const Target& target) {
    energy->setState(loan, state->get(target));
}

void LocalScreening::compute(const DeviceLoan& loan, const ProposalBatch& batch, int numAtoms,
                             const Vec3& origin, vector<double>& energies) {
    energy->compute(loan, batch, numAtoms, origin, energies);
}

double LocalScreening::compute(const DeviceLoan& loan, const vector<Vec3>& positions) {
    return energy->compute(loan, positions);
}
