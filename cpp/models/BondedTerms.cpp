#include "BondedTerms.h"
#include "NearestImages.h"
#include "openmm/OpenMMException.h"
#include <algorithm>
#include <cmath>

using namespace TimewarpPlugin;
using namespace OpenMM;
using namespace std;
using at::Tensor;

BondedTerms::BondedTerms(const BondedForm& form, BlockParticles& block) : form(&form) {
    const int count = form.getNumParticles();
    for (int term = 0; term < form.getNumTerms(); term++) {
        auto first = form.particles.begin() + term * count, last = first + count;
        bool moves = any_of(first, last, [&](int particle) { return block.isMoved(particle); });
        bool follows = any_of(first, last, [&](int particle) { return block.following.count(particle) > 0; });
        if (moves && !follows)
            rows.push_back(term);
    }
    for (int atom = 0; atom < count; atom++)
        for (int term : rows)
            places.push_back(block.placeOf(form.particles[term * count + atom]));
}

/**
 * Copy a vector to a tensor.
 */
template <class Number> static Tensor toTensor(const vector<Number>& values, at::ScalarType type) {
    return at::from_blob(const_cast<Number*>(values.data()), {(int64_t)values.size()}, type).clone();
}

void BondedTerms::setState(const SystemState& state, at::Device device) {
    box = state.box;
    const int count = form->getNumParticles();
    indices = toTensor(places, at::kLong).view({count, (int64_t)rows.size()}).to(device);
    TensorExpression::Values values;
    for (const string& name : form->globals)
        values[name] = at::scalar_tensor(state.parameters.at(name), at::kDouble);
    for (size_t column = 0; column < form->parameters.columns.size(); column++) {
        vector<double> parameters;
        for (int row : rows)
            parameters.push_back(form->parameters.get(row, column, state.parameters));
        values[form->parameters.columns[column]] = toTensor(parameters, at::kDouble).to(device);
    }
    if (form->coordinate == BondedForm::TWO_TORSIONS) {
        vector<int64_t> sizes(form->maps.sizes.begin(), form->maps.sizes.end());
        vector<int64_t> first(form->maps.first.begin(), form->maps.first.end());
        mapSizes = toTensor(sizes, at::kLong).to(device);
        mapFirst = toTensor(first, at::kLong).to(device);

        // On the CPU it is shared by all blocks.

        const vector<double>& c = form->maps.coefficients;
        mapCoefficients =
                at::from_blob(const_cast<double*>(c.data()), {(int64_t)c.size() / 16, 16}, at::kDouble)
                        .to(device);
    }
    prepared = form->expression->prepare(values, {});
}

Tensor BondedTerms::energies(const Tensor& positions) const {
    TensorExpression::Values values;
    TensorExpression::Functions functions;
    switch (form->coordinate) {
    case BondedForm::POSITION: {
        Tensor x = atom(positions, 0);
        values = {{"x", x[0]}, {"y", x[1]}, {"z", x[2]}};
        functions["periodicdistance"] = [this](const vector<Tensor>& x) { return periodicDistance(x); };
        break;
    }
    case BondedForm::DISTANCE:
        values["r"] = length(difference(positions, 0, 1));
        break;
    case BondedForm::ANGLE:
        values["theta"] = angle(positions);
        break;
    case BondedForm::TORSION:
        values["theta"] = torsion(positions, 0);
        break;
    case BondedForm::TWO_TORSIONS:
        values = {{"theta1", torsion(positions, 0)}, {"theta2", torsion(positions, 4)}};
        functions["torsionmap"] = [this](const vector<Tensor>& x) { return mapEnergies(x); };
        break;
    }
    Tensor energies =
            form->expression->finish(prepared, values, functions, [](const Tensor& value) { return value; });
    return energies.expand({positions.size(1), (int64_t)rows.size()}).sum(1);
}

BondedTerms::Vectors BondedTerms::crossProduct(const Vectors& a, const Vectors& b) {
    return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}

Tensor BondedTerms::innerProduct(const Vectors& a, const Vectors& b) {
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

Tensor BondedTerms::length(const Vectors& a) {
    return at::sqrt(innerProduct(a, a));
}

Tensor BondedTerms::atom(const Tensor& positions, int index) const {
    return positions.index_select(2, indices[index]);
}

BondedTerms::Vectors BondedTerms::difference(const Tensor& positions, int from, int to) const {
    Tensor difference = atom(positions, to) - atom(positions, from);
    if (form->periodic)
        difference = nearestImages(difference.movedim(0, -1), box).movedim(-1, 0);
    return {difference[0], difference[1], difference[2]};
}

Tensor BondedTerms::angle(const Tensor& positions) const {
    Vectors a = difference(positions, 1, 0), b = difference(positions, 1, 2);
    return at::atan2(length(crossProduct(a, b)), innerProduct(a, b));
}

Tensor BondedTerms::torsion(const Tensor& positions, int first) const {
    Vectors a = difference(positions, first, first + 1), b = difference(positions, first + 1, first + 2);
    Vectors c = difference(positions, first + 2, first + 3);
    Vectors normal = crossProduct(b, c);
    return at::atan2(length(b) * innerProduct(a, normal), innerProduct(crossProduct(a, b), normal));
}

/**
 * Evaluate the splines as ReferenceCMAPTorsionIxn does.
 *
 * @param arguments   the index of each term's map, and its two torsions [B, terms]
 */
Tensor BondedTerms::mapEnergies(const vector<Tensor>& arguments) const {
    Tensor map = arguments[0].to(at::kLong);
    Tensor size = mapSizes.index_select(0, map);
    auto patch = [&](const Tensor& torsion) {
        Tensor position = at::remainder(torsion, 2 * M_PI) * (size / (2 * M_PI));
        Tensor index = at::minimum(at::nan_to_num(at::floor(position)).to(at::kLong), size - 1);
        return make_pair(index, position - index);
    };
    auto [i, x] = patch(arguments[1]);
    auto [j, y] = patch(arguments[2]);
    Tensor patches = mapFirst.index_select(0, map) + i + size * j;
    Tensor c = mapCoefficients.index_select(0, patches.flatten()).view({x.size(0), x.size(1), 16});
    Tensor energy;
    for (int power = 3; power >= 0; power--) {
        auto coefficient = [&](int k) { return c.select(-1, 4 * power + k); };
        Tensor row = ((coefficient(3) * y + coefficient(2)) * y + coefficient(1)) * y + coefficient(0);
        energy = energy.defined() ? energy * x + row : row;
    }
    return energy;
}

Tensor BondedTerms::periodicDistance(const vector<Tensor>& x) const {
    auto shape = at::broadcast_tensors({x[0] - x[3], x[1] - x[4], x[2] - x[5]});
    return at::linalg_vector_norm(nearestImages(at::stack(shape, -1), box), 2, {-1});
}
