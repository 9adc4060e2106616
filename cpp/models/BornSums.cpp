#include "BornSums.h"
#include "BornFunctions.h"
#include "SystemTerms.h"

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;

/** After so many updates all terms are added up anew, so that errors of rounding cannot grow without end. */
static const int UPDATES = 1000;

const vector<double>& BornSums::get(const BornForm& form, shared_ptr<const SystemState> state) {
    if (state == current)
        return sums;
    const int size = form.charges.size();
    vector<int> changed;
    const bool mayUpdate = (current != nullptr && current->box == state->box && numUpdates < UPDATES);
    for (int i = 0; mayUpdate && i < size; i++)
        if (current->positions[i] != state->positions[i])
            changed.push_back(i);
    const shared_ptr<const SystemState> before = current;
    current = state;

    // An update takes two terms for each one of the particles that have moved.

    if (mayUpdate && (int)changed.size() < size / 8)
        update(form, *before, changed);
    else
        computeAll(form);
    return sums;
}

void BornSums::computeAll(const BornForm& form) {
    const int size = form.charges.size();
    points = Points(size);
    for (int i = 0; i < size; i++)
        points.place(i, current->positions[i]);
    sums.assign(size, 0);
    for (int i = 0; i < size; i++)
        addTermsOf(form, i, i + 1, 1);
    numUpdates = 0;
}

void BornSums::update(const BornForm& form, const SystemState& from, const vector<int>& changed) {
    // One after the other, so that each pair is counted as it was before and as it is now.

    for (int i : changed) {
        addTermsOf(form, i, 0, -1);
        points.place(i, current->positions[i]);
        sums[i] = 0;
        addTermsOf(form, i, 0, 1);
    }
    numUpdates++;
}

/**
 * Add the terms of a particle with others, to its own sum and to theirs.
 *
 * @param firstOther   the others are this one and all after it, but for the particle itself
 * @param sign         -1 to take them away
 */
void BornSums::addTermsOf(const BornForm& form, int particle, int firstOther, double sign) {
    const int count = points.size() - firstOther;
    all.resize(count + 1);
    squares.resize(count + 1);
    places.resize(count + 1);
    squaredDistances(points.positionOf(particle), points, firstOther, count,
                     form.periodic ? &current->box : NULL, all.data());
    const double limit = form.cutoff == 0 ? INFINITY : form.cutoff * form.cutoff;
    const int numKept = keepBelow(limit, all.data(), count, firstOther, squares.data(), places.data());
    const double reduced = form.reduced[particle], scaled = form.scaled[particle];
    const double farSquare = form.farDistance * form.farDistance;
    double sum = 0;
    for (int k = 0; k < numKept; k++) {
        const int j = places[k];
        if (squares[k] >= farSquare) {
            sum += farDescreening(form.scaled[j], squares[k]);
            sums[j] += sign * farDescreening(scaled, squares[k]);
        }
        else if (j != particle) {
            sum += descreening(reduced, form.scaled[j], squares[k]);
            sums[j] += sign * descreening(form.reduced[j], scaled, squares[k]);
        }
    }
    sums[particle] += sign * sum;
}
