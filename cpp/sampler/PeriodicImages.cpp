#include "PeriodicImages.h"
#include "BatchEnergy.h"
#include "ProposalModel.h"
#include "openmm/OpenMMException.h"
#include <algorithm>
#include <cmath>
#include <map>
#include <string>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

// How much a surrogate may change (kT): positions of some nm are rounded in single precision.
static const double SURROGATE_TOLERANCE = 0.05;

PeriodicImages::PeriodicImages(const ContextImpl& context, const vector<int>& particles) {
    if (!context.getSystem().usesPeriodicBoundaryConditions())
        return;
    vector<int> moleculeOf(context.getSystem().getNumParticles());
    int numMolecules = 0;
    for (const vector<int>& molecule : context.getMolecules()) {
        for (int particle : molecule)
            moleculeOf[particle] = numMolecules;
        numMolecules++;
    }
    map<int, int> numbers;
    for (int particle : particles)
        molecules.push_back(numbers.emplace(moleculeOf[particle], numbers.size()).first->second);
}

bool PeriodicImages::areOfSeveralMolecules() const {
    return any_of(molecules.begin(), molecules.end(), [](int molecule) { return molecule > 0; });
}

void PeriodicImages::check(const DeviceLoan& loan, ProposalModel& model,
                           const vector<Vec3>& positions) const {
    if (molecules.empty())
        return;

    // What a model knows of the box it could only have learned, so it must not notice any displacement.

    vector<Vec3> shifts;
    for (int molecule : molecules)
        shifts.push_back(Vec3(1.3, -0.7, 0.4) * ((molecule % 2 == 0 ? 1 : -1) * (1 + 0.2 * (molecule % 5))));
    model.checkTranslationInvariance(loan, positions, shifts);
}

void PeriodicImages::check(const DeviceLoan& loan, BatchEnergy& surrogate, ContextImpl& context,
                           const vector<Vec3>& positions, double kT) const {
    if (molecules.empty())
        return;
    Vec3 box[3];
    context.getPeriodicBoxVectors(box[0], box[1], box[2]);
    vector<Vec3> image = positions;
    for (size_t i = 0; i < image.size(); i++)
        image[i] += box[molecules[i] % 3] - box[(molecules[i] + 1) % 3] * (1 + molecules[i] % 2);
    double here = surrogate.compute(loan, positions), there = surrogate.compute(loan, image);
    if (isfinite(here) && !(fabs(there - here) <= SURROGATE_TOLERANCE * kT))
        throw OpenMMException(
                "Timewarp: the System has periodic boundary conditions, but the surrogate's energy changes "
                "by " +
                to_string(there - here) +
                " kJ/mol when molecules are put into other images of the box, which are the same state; use "
                "a "
                "surrogate that does not depend on where molecules lie, or build the System without periodic "
                "boundary conditions");
}
