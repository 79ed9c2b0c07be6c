import { Histogram, type HistogramConfiguration } from 'prom-client'

type TallyOptions = Pick<HistogramConfiguration<string>, 'name' | 'help' | 'registers'> & {
  /** Upper bounds, ascending. */
  buckets: readonly number[]
}

/** prom-client's histogram, without labels, for where every token passes: observing takes no memory. */
export class Tally extends Histogram {
  readonly #name: string
  readonly #help: string
  readonly #bounds: Float64Array
  /** One more than bounds: what lies above them all. */
  readonly #counts: Float64Array
  #sum = 0

  constructor(options: TallyOptions) {
    super({ ...options, buckets: [...options.buckets] })
    this.#name = options.name
    this.#help = options.help
    this.#bounds = Float64Array.from(options.buckets)
    this.#counts = new Float64Array(options.buckets.length + 1)
  }

  /** As many observations of `value` as `times` says. */
  add(value: number, times = 1): void {
    const bounds = this.#bounds
    let bucket = 0
    while (bucket < bounds.length && value > (bounds[bucket] ?? 0)) bucket++
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + times
    this.#sum += value * times
  }

  /** The one method through which prom-client reads a histogram; its type declarations leave it out. */
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
