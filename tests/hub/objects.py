"""Small objects for the tests here: two clusters, one step, a workflow from both to one."""

TOPOLOGY = """
kind: Topology
metadata: {name: pair}
spec:
  zones: [{name: here, tier: edge}, {name: there, tier: cloud}]
  clusters:
    - {name: edge, zone: here, nodes: [{name: n1, cpus: 2}]}
    - {name: cloud, zone: there, nodes: [{name: n1, cpus: 2}]}
  links: [{between: [here, there], bandwidth: 10Mbit, latency: 5ms, dial: here}]
  datasets: [{name: rows, parts: [{at: edge, path: rows.csv, size: 1000}]}]
"""
STEP = """
kind: Step
metadata: {name: count, version: "1"}
spec:
  run: {command: [wc, "{in.rows}"]}
  parameters: {words: {type: boolean, default: false}}
  inputs: {rows: {}}
  outputs: {total: {format: txt}}
"""
WORKFLOW = """
kind: Workflow
metadata: {name: counting}
spec:
  parameters: {limit: {type: integer, default: 3}}
  inputs: {rows: {dataset: rows}}
  steps:
    - {name: count, use: count@1, in: {rows: {from: inputs.rows, split: {count: 3}}}, place: {tier: edge}}
    - {name: total, use: count@1, in: {rows: {from: count.total, gather: all}}, place: {tier: cloud}}
  outputs: {result: {from: total.total, file: total.txt}}
"""
ALL = "\n---\n".join([TOPOLOGY, STEP, WORKFLOW])
