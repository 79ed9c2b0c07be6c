import { Histogram, type HistogramConfiguration } from 'prom-client'

type BucketHistogramOptions = Pick<HistogramConfiguration<string>, 'name' | 'help' | 'registers'> & {
  /** Upper bounds, ascending. */
  buckets: readonly number[]
}

/** prom-client's Histogram without labels, for values observed per token: `add` allocates no memory. */
export class BucketHistogram extends Histogram {
  readonly #name: string
  readonly #help: string
  readonly #bounds: Float64Array
  /** One more than `#bounds`: the last bucket counts values above all bounds. */
  readonly #counts: Float64Array
  #sum = 0

  constructor(options: BucketHistogramOptions) {
    super({ ...options, buckets: [...options.buckets] })
    this.#name = options.name
    this.#help = options.help
    this.#bounds = Float64Array.from(options.buckets)
    this.#counts = new Float64Array(options.buckets.length + 1)
  }

  /** Adds `times` observations of `value`. */
  add(value: number, times = 1): void {
    const bounds = this.#bounds
    let bucket = 0
    while (bucket < bounds.length && value > (bounds[bucket] ?? 0)) bucket++
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + times
    this.#sum += value * times
  }

  /** The only method through which prom-client's Registry reads a histogram; missing in its type declarations. */
  getForPromString() {
    let count = 0
    const values = [...this.#bounds, '+Inf'].map((le, bucket) => {
      count += this.#counts[bucket] ?? 0
      return { metricName: `${this.#name}_bucket`, labels: { le }, value: count }
    })
    return {
      name: this.#name,
      help: this.#help,
      type: 'histogram',
      aggregator: 'sum',
      values: [
        ...values,
        { metricName: `${this.#name}_sum`, labels: {}, value: this.#sum },
        { metricName: `${this.#name}_count`, labels: {}, value: count },
      ],
    }
  }
}
