// Sum over a workgroup without subgroups: a tree in workgroup memory. Every lane calls it; every lane gets the sum.
var<workgroup> tree: array<vec4<f32>, WG>;

fn workgroup_sum(value: vec4<f32>, lane: u32) -> vec4<f32> {
    tree[lane] = value;
    workgroupBarrier();
    for (var width = WG / 2u; width > 0u; width = width / 2u) {
        if (lane < width) {
            tree[lane] += tree[lane + width];
        }
        workgroupBarrier();
    }
    let sum = tree[0];
    // The next call may write the tree: nobody may still be reading it.
    workgroupBarrier();
    return sum;
}
