export declare function billOfMaterials(): Promise<{
  bomFormat: string
  metadata: { component: { name: string } }
  components: { name: string; version: string }[]
}>
