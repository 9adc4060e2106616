#ifndef TIMEWARP_TEST_ATOM_ORDER_H_
#define TIMEWARP_TEST_ATOM_ORDER_H_

#include "openmm/internal/ContextImpl.h"
#include <vector>

/**
 * Get the order in which a device keeps its atoms: the particle in each place.  Each platform's test has
 * these functions of its own, since they need its headers.
 */
std::vector<int> atomOrder(OpenMM::ContextImpl& context);
/**
 * Have the device sort its atoms at the next occasion, which otherwise takes 250 of them.
 */
void askForReordering(OpenMM::ContextImpl& context);

#endif /*TIMEWARP_TEST_ATOM_ORDER_H_*/
