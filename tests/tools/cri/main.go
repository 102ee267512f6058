// Command cri asks a node's container runtime for images the way the kubelet does: over the CRI, on its unix socket.
//
//	cri [flags] pull IMAGE    prints {"image": …, "seconds": …}
//	cri [flags] images        prints the images as a JSON array
//	cri [flags] remove IMAGE
//	cri [flags] info          prints the runtime's version and conditions
//
// Answers are JSON on standard output. A failure is one line on standard error and exit code 1.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maxMessageBytes is the kubelet's: a list of images may be longer than gRPC's default of 4 MiB.
const maxMessageBytes = 16 << 20

type options struct {
	socket, username, password string
	timeout                    time.Duration
}

type pulled struct {
	Image   string  `json:"image"`
	Seconds float64 `json:"seconds"`
}

type image struct {
	ID      string   `json:"id"`
	Tags    []string `json:"tags"`
	Digests []string `json:"digests"`
	Bytes   uint64   `json:"bytes"`
}

type info struct {
	Runtime    string          `json:"runtime"`
	Version    string          `json:"version"`
	Conditions map[string]bool `json:"conditions"`
}

func main() {
	var o options
	flag.StringVar(&o.socket, "socket", "/run/containerd/containerd.sock", "`path` of the runtime's unix socket")
	flag.StringVar(&o.username, "username", "", "`user` that the registry knows")
	flag.StringVar(&o.password, "password", "", "the user's `password`")
	flag.DurationVar(&o.timeout, "timeout", 5*time.Minute, "longest `time` for the command, connecting included")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: cri [flags] pull IMAGE | images | remove IMAGE | info")
		flag.PrintDefaults()
	}
	flag.Parse()
	answer, err := run(o, flag.Args())
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(answer)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cri:", err)
		os.Exit(1)
	}
}

func run(o options, args []string) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), o.timeout)
	defer cancel()
	connection, err := grpc.NewClient("unix:"+o.socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)))
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	images := cri.NewImageServiceClient(connection)
	switch {
	case len(args) == 2 && args[0] == "pull":
		return pull(ctx, images, o, args[1])
	case len(args) == 1 && args[0] == "images":
		return list(ctx, images)
	case len(args) == 2 && args[0] == "remove":
		_, err := images.RemoveImage(ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: args[1]}})
		return map[string]string{"removed": args[1]}, err
	case len(args) == 1 && args[0] == "info":
		return about(ctx, cri.NewRuntimeServiceClient(connection))
	default:
		return nil, errors.New("one of these is needed: pull IMAGE, images, remove IMAGE, info")
	}
}

func pull(ctx context.Context, images cri.ImageServiceClient, o options, name string) (any, error) {
	request := &cri.PullImageRequest{Image: &cri.ImageSpec{Image: name}}
	if o.username != "" {
		request.Auth = &cri.AuthConfig{Username: o.username, Password: o.password}
	}
	started := time.Now()
	answer, err := images.PullImage(ctx, request)
	if err != nil {
		return nil, err
	}
	return pulled{Image: answer.GetImageRef(), Seconds: time.Since(started).Seconds()}, nil
}

func list(ctx context.Context, images cri.ImageServiceClient) (any, error) {
	answer, err := images.ListImages(ctx, &cri.ListImagesRequest{})
	if err != nil {
		return nil, err
	}
	all := make([]image, 0, len(answer.GetImages()))
	for _, one := range answer.GetImages() {
		// Not `null` where there is none.
		tags, digests := append([]string{}, one.GetRepoTags()...), append([]string{}, one.GetRepoDigests()...)
		all = append(all, image{one.GetId(), tags, digests, one.GetSize()})
	}
	return all, nil
}

func about(ctx context.Context, runtime cri.RuntimeServiceClient) (any, error) {
	version, err := runtime.Version(ctx, &cri.VersionRequest{})
	if err != nil {
		return nil, err
	}
	status, err := runtime.Status(ctx, &cri.StatusRequest{})
	if err != nil {
		return nil, err
	}
	conditions := map[string]bool{}
	for _, condition := range status.GetStatus().GetConditions() {
		conditions[condition.GetType()] = condition.GetStatus()
	}
	return info{version.GetRuntimeName(), version.GetRuntimeVersion(), conditions}, nil
}
