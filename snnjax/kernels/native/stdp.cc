// STDP of layers with many inputs: whole blocks of images in one call. Python has checked all buffers.

#include "competition.h"
#include "prepared.h"

namespace {

// Images span[0]..span[1]-1 are learned from, each with rates of its own; features of the others are -1.
ffi::Error learn_by_stdp(Floats weights, Bytes latencies, Integers span, Floats threshold, Integers radius,
                         Floats rates, Floats bounds, ffi::Dictionary settings, ffi::Result<Floats> learned,
                         ffi::Result<Integers> winners) {
  keep(weights, learned), silence(winners);
  const auto shape = latencies.dimensions();
  const int64_t k = winners->dimensions()[1];
  const bool stabiliser = flag(settings, "stabiliser");
  const float lower = bounds.typed_data()[0], upper = bounds.typed_data()[1];
  const Layer layer(learned->typed_data(), weights, settings, "layer", shape[2], shape[3]);
  Quantised quantised(layer, lower, upper);
  Competition competition(layer, quantised, threshold.typed_data()[0], k, radius.typed_data()[0]);
  auto learn_from = [&](int64_t at, const Inputs& inputs) {
    const float* rate = rates.typed_data() + 2 * at;
    competition.find(inputs, false);
    learn(layer, quantised, competition, {rate[0], rate[1], lower, upper, stabiliser}, winners->typed_data() + at * k);
  };
  each_image(Inputs(layer, layer.time_steps), latencies, span.typed_data()[0], span.typed_data()[1], learn_from);
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(snnjax_learn_by_stdp, learn_by_stdp);
