/** The tour of the first visit. */

export function offerTour() {}
