// Sum over a workgroup with subgroups: one `subgroupAdd`, then one partial sum per subgroup through workgroup memory.
// The subgroup's size is counted, never assumed: 4 on a software adapter, 8 to 64 on hardware.
var<workgroup> partials: array<vec4<f32>, WG>;

fn workgroup_sum(value: vec4<f32>, lane: u32) -> vec4<f32> {
    let subtotal = subgroupAdd(value);
    let size = subgroupAdd(1u);
    if (lane % size == 0u) {
        partials[lane / size] = subtotal;
    }
    workgroupBarrier();
    var sum = partials[0];
    for (var i = 1u; i * size < WG; i += 1u) {
        sum += partials[i];
    }
    workgroupBarrier();
    return sum;
}
