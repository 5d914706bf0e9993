pub mod softmax;
