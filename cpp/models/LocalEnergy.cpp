#include "LocalEnergy.h"
#include "BatchPositions.h"
#include "BondedTerms.h"
#include "BornTerms.h"
#include "PairTerms.h"
#include "Sha256.h"
#include "openmm/OpenMMException.h"
#include <algorithm>
#include <cmath>
#include <limits>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;
using torch::Tensor;

/** Where coordinates (nm) have hardly a digit left for energies; proposals beyond are as good as infinite. */
static const double FAR_AWAY = 1e9;

/**
 * The terms of a block, on the device.
 */
class LocalEnergy::Implementation {
public:
    Implementation(shared_ptr<const SystemTerms> terms, const vector<int>& particles,
                   const vector<int>& moved, double clashEnergy)
            : terms(terms), moved(moved.begin(), moved.end()), device(torch::kCPU) {
        for (int atom : moved)
            block.moved.push_back(particles.at(atom));
        for (int particle : block.moved) {
            if (terms->isVirtualSite(particle))
                throw OpenMMException("Timewarp: particle " + to_string(particle) +
                                      " is a virtual site, which no model can move");
            block.places.insert({particle, (int)block.places.size()});
        }
        block.following = terms->getSitesOf(set<int>(block.moved.begin(), block.moved.end()));
        for (const BondedForm& form : terms->getBonded()) {
            BondedTerms part(form, block);
            if (!part.isEmpty())
                bonded.push_back(part);
        }
        for (const PairForm& form : terms->getPairs()) {
            pairs.emplace_back(form, block, clashEnergy);
            reach = max(reach, pairs.back().getReach());
            isPeriodic = isPeriodic || form.periodic;
        }
        for (const BornForm& form : terms->getBorn()) {
            born.emplace_back(form, block);
            reach = max(reach, born.back().getReach());
            isPeriodic = isPeriodic || form.periodic;
        }
    }
    bool setState(shared_ptr<const SystemState> newState) {
        if ((int)newState->positions.size() != terms->getNumParticles())
            throw OpenMMException(
                    "Timewarp: a local energy of a System of " + to_string(terms->getNumParticles()) +
                    " particles was given the positions of " + to_string(newState->positions.size()));
        for (const string& name : terms->getGlobals())
            if (newState->parameters.count(name) == 0)
                throw OpenMMException("Timewarp: a local energy needs the global parameter '" + name +
                                      "', which has no value");
        if (state && state->hasBoxAndParametersOf(*newState) && !isFelt(*newState)) {
            for (PairTerms& part : pairs)
                part.setPositions(newState);
            for (BornTerms& part : born)
                part.setState(newState);
            state = newState;
            return false;
        }

        // A state that is refused is not known, so that it is refused each time.

        state.reset();
        useState(newState);
        computed = Bounds();
        return true;
    }
    void useState(shared_ptr<const SystemState> newState) {
        vector<Vec3> positions;
        for (int particle : block.fixed)
            positions.push_back(newState->positions.at(particle));
        fixed = positionsTensor(positions, torch::kFloat64).to(device);
        for (BondedTerms& part : bonded)
            part.setState(*newState, device);
        for (PairTerms& part : pairs)
            part.setState(newState, device);
        for (BornTerms& part : born)
            part.setState(newState);
        state = newState;
    }
    /**
     * Get whether Born radii are computed, which is done on the CPU: a GPU has the energy of the System for
     * less.
     */
    bool hasBorn() const {
        return device.is_cpu();
    }
    /**
     * @param positions   of the model's atoms, [B, N, 3] (nm)
     * @return energies, [B] (kJ/mol)
     */
    Tensor energies(const Tensor& positions) {
        if (!state)
            throw OpenMMException("Timewarp: a local energy was asked for before its surroundings were set");
        Tensor x = positions.index_select(1, torch::tensor(moved, torch::kInt64).to(device));
        Tensor isFinite = (x.abs() < FAR_AWAY).flatten(1).all(1);
        Tensor rows = isFinite.nonzero().squeeze(1);
        Tensor results = torch::full({x.size(0)}, numeric_limits<double>::quiet_NaN(), x.options());
        if (rows.numel() > 0)
            results.index_copy_(0, rows, finiteEnergies(x.index_select(0, rows)));
        return results;
    }

    shared_ptr<const SystemTerms> terms;
    BlockParticles block;
    vector<int64_t> moved;
    torch::Device device;
    shared_ptr<const SystemState> state;

private:
    /**
     * Get whether energies that were computed before are others now: whether something has moved that bonded
     * terms act on, or that was or is within reach of the conformations whose energies these are.
     */
    bool isFelt(const SystemState& newState) const {
        const PeriodicBox* box = isPeriodic ? &newState.box : NULL;
        auto isWithinReach = [&](const Vec3& p) {
            if (isinf(reach))
                return true;
            bool isNear = false;
            computed.visitNear(p, reach, box, [&](const Vec3&) { isNear = true; });
            return isNear;
        };
        for (int i = 0; i < (int)newState.positions.size(); i++) {
            const Vec3 &before = state->positions[i], &now = newState.positions[i];
            if (before == now || block.isMoved(i) || block.following.count(i) > 0)
                continue;
            const bool isFixed = block.places.count(i) > 0;
            if (isFixed || (!computed.isEmpty() && (isWithinReach(before) || isWithinReach(now))))
                return true;
        }
        return false;
    }
    Tensor finiteEnergies(const Tensor& x) {
        Tensor sum = torch::zeros({x.size(0)}, x.options());
        if (!bonded.empty()) {
            Tensor all = torch::cat({x, fixed.expand({x.size(0), -1, 3})}, 1).permute({2, 0, 1}).contiguous();
            for (const BondedTerms& part : bonded)
                sum = sum + part.energies(all);
        }
        map<bool, MovedRegion> regions;
        auto regionOf = [&](bool periodic) -> const MovedRegion& {
            auto [found, isNew] = regions.try_emplace(periodic, x, periodic ? &state->box : NULL);
            const MovedRegion& region = found->second;
            if (isNew)
                computed.include(region.center + region.bounds.low, region.center + region.bounds.high);
            return region;
        };
        vector<char> clashes(x.size(0));
        for (const PairTerms& part : pairs)
            sum = sum + part.energies(regionOf(part.isPeriodic()), clashes);
        if (hasBorn())
            for (BornTerms& part : born)
                addBorn(part, regionOf(part.isPeriodic()), clashes, sum);
        return sum;
    }
    void addBorn(BornTerms& part, const MovedRegion& region, const vector<char>& clashes, Tensor& sum) {
        const vector<int> neighbors = region.findNeighbors(*state, part.getNotNeighbors(), part.getCutoff(),
                                                           part.isPeriodic() ? &state->box : NULL);
        const Tensor x = region.absolute.contiguous();
        sum = sum.contiguous();
        part.add(neighbors, x.data_ptr<double>(), x.size(0), clashes, sum.data_ptr<double>());
    }

    vector<BondedTerms> bonded;
    vector<PairTerms> pairs;
    vector<BornTerms> born;
    double reach = 0;
    bool isPeriodic = false;
    /** Positions of the fixed particles, [fixed, 3] (nm). */
    Tensor fixed;
    /** Where the moved particles were in all conformations whose energies were computed. */
    Bounds computed;
};

LocalEnergy::LocalEnergy(shared_ptr<const SystemTerms> terms, const vector<int>& particles,
                         const vector<int>& moved, double clashEnergy)
        : implementation(make_unique<Implementation>(terms, particles, moved, clashEnergy)) {
}

LocalEnergy::~LocalEnergy() {
}

void LocalEnergy::useDevice(const DeviceLoan&, int index) {
    implementation->device = torchDevice(index);
    torch::InferenceMode inference;
    OnDefaultStream stream(implementation->device);
    if (implementation->state)
        implementation->useState(implementation->state);
}

bool LocalEnergy::setState(const DeviceLoan&, shared_ptr<const SystemState> state) {
    torch::InferenceMode inference;
    OnDefaultStream stream(implementation->device);
    return implementation->setState(state);
}

void LocalEnergy::compute(const DeviceLoan&, const ProposalBatch& batch, int numAtoms, const Vec3& origin,
                          vector<double>& energies) {
    torch::InferenceMode inference;
    torch::Device device = implementation->device;
    OnDefaultStream stream(device);
    copyDoubles(implementation->energies(batchPositions(batch, numAtoms, origin, device)), energies);
}

double LocalEnergy::compute(const DeviceLoan&, const vector<Vec3>& positions) {
    torch::InferenceMode inference;
    OnDefaultStream stream(implementation->device);
    Tensor x = positionsTensor(positions, torch::kFloat64).unsqueeze(0).to(implementation->device);
    return implementation->energies(x).item<double>();
}

string LocalEnergy::getDigest() const {
    string text = implementation->terms->getDigest();
    for (int particle : implementation->block.moved)
        text.append(reinterpret_cast<const char*>(&particle), sizeof(particle));
    return sha256(text);
}

vector<string> LocalEnergy::getLeftOut() const {
    vector<string> leftOut = implementation->terms->getLeftOut();
    if (!implementation->block.following.empty())
        leftOut.push_back("terms with virtual sites that follow moved particles");
    if (!implementation->hasBorn())
        for (const BornForm& form : implementation->terms->getBorn())
            leftOut.push_back(form.name + " (Born radii are not computed on a GPU)");
    return leftOut;
}
