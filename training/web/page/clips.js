// Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
/**
 * From a video to the input of a model, and from logits to scores, as TubeViT's Python processors do: frame sampling, resizing, crops.
 *
 * Pure functions without a DOM; tests run them in Node and compare them with the processors. `settings` is the content of model.json.
 */

// Seconds. A frame that starts this little after a requested time counts as visible at it (frame_sampling.TIME_TOLERANCE).
const TIME_TOLERANCE = 0.97e-3;

/** An error whose message is a sentence for the visitor of the page. */
export class VideoError extends Error {}

/**
 * Indices of the frames of a clip.
 *
 * timestamps: presentation time of each frame of the video in seconds, ascending from 0. Throws `VideoError` for a short video with the
 * pad mode "error".
 */
export function sampleFrames(timestamps, settings) {
  const total = timestamps.length;
  const { num_frames: count, sampling } = settings;
  if (total === 0) throw new VideoError("The video has no frames.");
  const frames = Array.from({ length: count }, (_, index) => index);
  if (sampling.kind === "fixed_rate") return fixedRateClip(timestamps, count, sampling);
  if (sampling.kind === "frame_stride") {
    const start = Math.floor(Math.max(0, total - (count - 1) * sampling.frame_stride - 1) / 2);
    return pad(frames.map((index) => start + index * sampling.frame_stride), total, sampling.pad_mode);
  }
  if (total < count && (sampling.kind !== "segments" || sampling.pad_mode === "error")) {
    return pad(frames, total, sampling.pad_mode);
  }
  if (sampling.kind === "uniform") return frames.map((index) => Math.floor(((2 * index + 1) * total) / (2 * count)));
  if (sampling.kind === "segment_starts") return frames.map((index) => Math.floor((index * total) / count));
  if (sampling.kind === "segments") {
    const segment = (total - 1) / count;
    const shift = Math.trunc(segment / 2);
    return frames.map((index) => Math.min(roundHalfEven(segment * index) + shift, total - 1));
  }
  throw new Error(`unknown sampling ${sampling.kind}`);
}

function fixedRateClip(timestamps, count, { fps, clip_start: clipStart, pad_mode: padMode }) {
  const total = timestamps.length;
  const last = timestamps[total - 1];
  const end = last + (last > 0 ? last / (total - 1) : 1 / fps);
  const start = clipStart === "center" ? Math.max(0, end - count / fps) / 2 : clipStart;
  if (start >= end) {
    throw new VideoError(`The video is too short: it lasts ${end.toFixed(2)} s, and the clip starts at ${start} s.`);
  }
  const tolerance = Math.min(TIME_TOLERANCE, (0.25 * end) / total);
  const indices = [];
  for (let frame = 0; frame < count; frame++) {
    let time = start + frame / fps + tolerance;
    if (time >= end + tolerance && padMode === "error") {
      throw new VideoError(
        `The video is too short: a clip of ${count} frames needs ${(count / fps).toFixed(2)} s, the video lasts ${end.toFixed(2)} s.`,
      );
    }
    if (padMode === "loop") time %= end;
    indices.push(lastAtOrBefore(timestamps, time));
  }
  return indices;
}

/** Index of the last timestamp that is not after `time`. */
function lastAtOrBefore(timestamps, time) {
  let [low, high] = [0, timestamps.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (timestamps[middle] <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function pad(indices, total, padMode) {
  if (padMode === "loop") return indices.map((index) => index % total);
  if (padMode === "error" && indices[indices.length - 1] >= total) {
    throw new VideoError(`The video is too short: it has ${total} frames, a clip needs ${indices[indices.length - 1] + 1}.`);
  }
  return indices.map((index) => Math.min(index, total - 1));
}

function roundHalfEven(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** Seconds that the frames of a clip from a camera span; `null` if the visitor chooses them. */
export function clipSeconds({ num_frames: count, sampling }) {
  return sampling.kind === "fixed_rate" ? count / sampling.fps : null;
}

/** Size of the resized frame, and the place of the crop in it: top and left are negative where the frame gets a black border. */
export function framePlan(height, width, settings) {
  const { size, crops_round_up: roundsUp } = settings;
  let target = [height, width];
  if (size?.shortest_edge) {
    const short = size.shortest_edge;
    if (Math.min(height, width) !== short) {
      // The processors divide in this order; the quotient decides whether the longer side is rounded down.
      const long = settings.antialias
        ? Math.floor((short * Math.max(height, width)) / Math.min(height, width))
        : Math.floor((Math.max(height, width) / Math.min(height, width)) * short);
      target = height <= width ? [short, long] : [long, short];
    }
  } else if (size) {
    target = [size.height, size.width];
  }
  const [top, left] = [settings.height, settings.width].map((crop, axis) => {
    const slack = target[axis] - crop;
    return slack < 0 ? -Math.floor(-slack / 2) : Math.floor((slack + (roundsUp ? 1 : 0)) / 2);
  });
  return { height: target[0], width: target[1], top, left };
}

/**
 * A frame as the model sees it: resized, cropped, uint8 `(3, settings.height, settings.width)`.
 *
 * pixels: RGBA, `4 * width * height` bytes. The filter is torchvision's: antialiased, with int16 weights, rounded after each of the two
 * passes. UniFormerV2's resize has neither antialiasing nor the rounding between the passes.
 */
export function prepareFrame(pixels, height, width, settings) {
  const plan = framePlan(height, width, settings);
  const columns = resizeTaps(width, plan.width, plan.left, settings.width, settings);
  const rows = resizeTaps(height, plan.height, plan.top, settings.height, settings);
  const first = Math.min(...rows.taps.map((tap) => (tap ? tap.start : height)));
  const last = Math.max(...rows.taps.map((tap) => (tap ? tap.start + tap.weights.length : 0)));
  const area = settings.height * settings.width;
  const output = new Uint8Array(3 * area);
  const strip = new Float32Array(Math.max(0, last - first) * settings.width);
  for (let channel = 0; channel < 3; channel++) {
    const source = settings.flip_channels ? 2 - channel : channel;
    for (let row = first; row < last; row++) {
      for (let column = 0; column < settings.width; column++) {
        const tap = columns.taps[column];
        if (!tap) continue;
        let sum = 0;
        let place = 4 * (row * width + tap.start) + source;
        for (const weight of tap.weights) {
          sum += weight * pixels[place];
          place += 4;
        }
        strip[(row - first) * settings.width + column] = columns.round(sum);
      }
    }
    for (let row = 0; row < settings.height; row++) {
      const tap = rows.taps[row];
      if (!tap) continue;
      for (let column = 0; column < settings.width; column++) {
        if (!columns.taps[column]) continue;
        let sum = 0;
        let place = (tap.start - first) * settings.width + column;
        for (const weight of tap.weights) {
          sum += weight * strip[place];
          place += settings.width;
        }
        const value = rows.round(sum);
        output[channel * area + row * settings.width + column] = settings.antialias ? value : roundHalfEven(value);
      }
    }
  }
  return output;
}

/**
 * The weights with which `count` pixels from `offset` on, of a side resized from `from` to `to` pixels, sum the pixels of the side;
 * `null` for a pixel of the border. `round` maps a sum to a pixel.
 */
function resizeTaps(from, to, offset, count, settings) {
  const scale = from / to;
  const stretch = settings.antialias ? Math.max(scale, 1) : 1;
  const filter = FILTERS[settings.filter];
  const taps = [];
  for (let index = offset; index < offset + count; index++) {
    if (index < 0 || index >= to) taps.push(null);
    else if (from === to) taps.push({ start: index, weights: [1] });
    else if (!settings.antialias) taps.push(interpolationTap(index, scale, from));
    else taps.push(filterTap(scale * (index + 0.5), filter, stretch, from));
  }
  if (from === to || !settings.antialias) return { taps, round: (sum) => sum };
  let largest = 0;
  // torch computes the largest weight over the whole side.
  for (let index = 0; index < to; index++) {
    for (const weight of filterTap(scale * (index + 0.5), filter, stretch, from).weights) largest = Math.max(largest, weight);
  }
  let precision = 0;
  while (precision < 22 && Math.floor(0.5 + largest * 2 ** (precision + 1)) < 2 ** 15) precision++;
  const unit = 2 ** precision;
  for (const tap of taps) {
    if (tap) tap.weights = tap.weights.map((weight) => Math.trunc(weight * unit + (weight < 0 ? -0.5 : 0.5)));
  }
  return { taps, round: (sum) => Math.min(255, Math.max(0, Math.floor((sum + unit / 2) / unit))) };
}

function interpolationTap(index, scale, from) {
  const place = Math.max(0, scale * (index + 0.5) - 0.5);
  const start = Math.min(Math.floor(place), from - 1);
  const weight = place - start;
  return { start, weights: start + 1 < from ? [1 - weight, weight] : [1] };
}

function filterTap(center, filter, stretch, from) {
  const support = filter.radius * stretch;
  const start = Math.max(0, Math.trunc(center - support + 0.5));
  const end = Math.min(from, Math.trunc(center + support + 0.5));
  const weights = [];
  for (let place = start; place < end; place++) weights.push(filter.weight((place - center + 0.5) / stretch));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return { start, weights: weights.map((weight) => weight / sum) };
}

const FILTERS = {
  bilinear: { radius: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    radius: 2,
    weight: (x) => {
      const [a, distance] = [-0.5, Math.abs(x)];
      if (distance < 1) return ((a + 2) * distance - (a + 3)) * distance * distance + 1;
      return distance < 2 ? (((distance - 5) * distance + 8) * distance - 4) * a : 0;
    },
  },
};

// Red of V, blue of U, green of U and of V, in units of 1 / 65536 (swscale's tables of limited-range video).
const YUV_COEFFICIENTS = { smpte170m: [104597, 132201, 25675, 53279], bt709: [117504, 138453, 13954, 34903] };

/**
 * RGBA pixels of a limited-range I420 picture as FFmpeg converts them: each term is rounded down, and a sample of chroma belongs to four
 * pixels. `null` for another color matrix.
 *
 * data, layout: the three planes, as `VideoFrame.copyTo` writes them, `[{offset, stride}]`. matrix: a name of WebCodecs.
 */
export function convertI420(data, layout, height, width, matrix) {
  const coefficients = YUV_COEFFICIENTS[matrix === "bt470bg" ? "smpte170m" : matrix];
  if (!coefficients) return null;
  const terms = [255 / 219, ...coefficients.map((value, index) => (index < 2 ? value : -value) / 65536)];
  // 256 values of each term
  const [luma, redV, blueU, greenU, greenV] = terms.map((factor, index) =>
    Int16Array.from({ length: 256 }, (_, value) => Math.floor(factor * (value - (index ? 128 : 16)))),
  );
  const rgba = new Uint8ClampedArray(4 * height * width);
  let place = 0;
  for (let row = 0; row < height; row++) {
    const lumaRow = layout[0].offset + row * layout[0].stride;
    const [rowU, rowV] = [1, 2].map((plane) => layout[plane].offset + (row >> 1) * layout[plane].stride);
    for (let column = 0; column < width; column++) {
      const y = luma[data[lumaRow + column]];
      const u = data[rowU + (column >> 1)];
      const v = data[rowV + (column >> 1)];
      rgba[place++] = y + redV[v];
      rgba[place++] = y + greenU[u] + greenV[v];
      rgba[place++] = y + blueU[u];
      rgba[place++] = 255;
    }
  }
  return rgba;
}

/** Frames of `prepareFrame` as the model's input `(1, frames, 3, height, width)`, one after the other. */
export function joinFrames(frames) {
  const clip = new Uint8Array(frames.length * frames[0].length);
  frames.forEach((frame, index) => clip.set(frame, index * frame.length));
  return clip;
}

/**
 * Labels with their scores, best first, in groups `[{name, multiLabel, entries: [{label, score}]}]`: a softmax per group of classes, or a
 * sigmoid per class of a classifier with several labels per video.
 */
export function scoreLabels(logits, { labels, label_groups: groups, multi_label: multiLabel }) {
  const named = groups.length ? groups : [["", labels.length]];
  let start = 0;
  return named.map(([name, count]) => {
    const own = Array.from(logits.slice(start, start + count));
    const names = labels.slice(start, start + count);
    start += count;
    const largest = Math.max(...own);
    const total = own.reduce((sum, logit) => sum + Math.exp(logit - largest), 0);
    const score = (logit) => (multiLabel ? 1 / (1 + Math.exp(-logit)) : Math.exp(logit - largest) / total);
    const entries = own.map((logit, index) => ({ label: names[index], score: score(logit) }));
    return { name, multiLabel, entries: entries.sort((one, other) => other.score - one.score) };
  });
}

/** Rectangles `[left, top, width, height]` in pixels that a tube of model.json reads from a frame. */
export function tubeBoxes({ starts, kernel }, frame) {
  const [times, tops, lefts] = starts;
  if (!times.some((time) => time <= frame && frame < time + kernel[0])) return [];
  return tops.flatMap((top) => lefts.map((left) => [left, top, kernel[2], kernel[1]]));
}
